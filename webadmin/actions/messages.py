"""Saying something to who is on in some workspaces: the bulk action "message" of their table."""

from __future__ import annotations

from workspaces.messages import Sent, message_line, send

__all__ = ["Sent", "message_line", "send"]
