"""What people, terminals and other programs are told, and the record of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """Of an announcement."""

    INFO = "info"
    WARNING = "warning"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A text for everybody, or for those of `challenge`, from `from_at` until `until_at` (None: until it is ended)."""

    id: int
    text: str
    severity: Severity
    challenge: str | None
    from_at: float
    until_at: float | None
    created_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class NewsItem:
    """One sentence for one person about what happened; unread while `read_at` is None."""

    id: int
    at: float
    kind: str  # of the event that it tells of
    workspace: str | None
    snapshot_id: int | None
    job_id: int | None
    text: str
    read_at: float | None


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for those who have a terminal open in a workspace."""

    id: int
    workspace_id: int
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the record of who did what; `data` has the particulars."""

    id: int
    at: float
    actor: str
    kind: str
    workspace: str | None
    snapshot_id: int | None
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of events; `key` names the file with its secret."""

    id: int
    url: str
    key: str
    created_at: float


class DeliveryState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"  # given up


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail to `user`, or a call of webhook `webhook_id`; the receiver can tell repetitions by `token`.

    `payload` is the JSON body of a webhook; of a mail it is JSON with `subject` and `text`.
    """

    id: int
    token: str
    user: str | None
    webhook_id: int | None
    target: str  # address or URL as it is now; empty when the person has no address any more
    kind: str
    workspace: str | None
    payload: str
    state: DeliveryState
    attempts: int
    not_before: float
    error: str | None
    created_at: float
    ended_at: float | None
