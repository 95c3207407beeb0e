"""A line from the organisers to whoever has a terminal open in some workspaces.

text ─► one line, made safe ─► for each workspace: notice (store) ─► its gateways ─► terminals     and an event
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workspaces.errors import WorkspacesError
from workspaces.names import check_message, printable
from workspaces.store import Store


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message in one workspace: `people` have a shell open there; `error` says why it was not sent."""

    workspace: str  # ref, or what was asked for when there is no such workspace
    people: tuple[str, ...] = ()
    error: str = ""

    @property
    def said(self) -> str:
        """A sentence for whoever sent it."""
        if self.error:
            return self.error
        return f"told {', '.join(self.people)}" if self.people else "nobody has a terminal open"


def message_line(text: str) -> str:
    """What terminals show of a message. Raises InvalidInput for what is none."""
    return f"Message from the organisers: {printable(' '.join(check_message(text, 'message').split()), 1000)}"


def send(store: Store, workspaces: Iterable[str | int], text: str, *, actor: str) -> list[Sent]:
    """Tell who is on in each of `workspaces` (ids, references); a result for each, in their order.

    InvalidInput, before anybody is told, when the text is none.
    """
    line = message_line(text)
    return [_one(store, workspace, line, text.strip(), actor) for workspace in workspaces]


def _one(store: Store, workspace: str | int, line: str, text: str, actor: str) -> Sent:
    try:
        found = store.workspace(workspace)
        people = sorted({session.user for session in store.sessions(found.id) if session.kind == "shell"})
        if store.add_notice(found.id, line) is not None:  # a command may have a terminal, too
            store.add_event(actor, "workspace.message", workspace=found.ref, data={"text": text})
    except WorkspacesError as error:
        return Sent(printable(str(workspace), 80), error=error.message)
    return Sent(found.ref, tuple(people))
