"""Which jobs somebody may see, beside those of the challenges that he may. Pages and API share it."""

from __future__ import annotations

from workspaces.rights import Right, Rights


def always(rights: Rights) -> str:
    """What lists of jobs are asked for beside: those about the host are of no challenge, and take its right."""
    return "" if rights.may(Right.HOST) else "host:no"
