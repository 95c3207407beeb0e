"""The command line: parse, one call into the layers below, print. It has no rules of its own.

    main ─► group `workspaces` ─► command ─► App (settings, store, engine: opened when first used) ─► layers below

Errors of the tree in `workspaces.errors` are printed as a sentence with what to do, and end with their exit
status: 1 refused or failed, 2 wrong use. Anything else is a bug and shows its traceback to the administrator.
"""

from __future__ import annotations

from workspaces.cli.common import main

__all__ = ["main"]
