"""The web application: participants' page and administrators' pages, over the store alone.

A request passes: size limit → CSRF (flask-wtf) → session (a row of the store, `session.py`) → the blueprint's guard
→ a view, which reads the store or makes one store call → template or redirect. Starting, stopping, committing
and restoring are jobs in the store that the worker runs; the pages poll fragments that show their progress
(`live.py`). Nothing here imports the engine or the gateway.
"""

from __future__ import annotations

from webadmin.app import create_app
from webadmin.server import main

__all__ = ["create_app", "main"]
