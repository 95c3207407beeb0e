"""Every error that a person can meet, as one tree.

    WorkspacesError                 anything below; the command line prints it and ends with `exit_status`
    ├── UsageError                  the call itself is wrong (exit status 2)
    │   └── SettingsError           workspaces.toml or the environment
    ├── InvalidInput                a name, key, message or file that breaks a rule
    ├── NotFound                    no such user, workspace, snapshot, image …
    ├── Conflict                    exists already, or the state does not allow it
    ├── Refused                     the person may not do that
    ├── StoreError                  the database
    │   ├── StoreBusy               still locked after bounded retries; nothing was written
    │   └── StoreTooNew             written by a newer version of this program
    ├── EngineError                 the container engine said no
    │   ├── EngineUnavailable       it does not answer at all
    │   ├── EngineTimeout           it took longer than allowed
    │   └── NoSpace                 its disk is full
    ├── GuestError                  the agent inside a container
    │   ├── GuestUnavailable        no agent answers on the socket
    │   └── GuestProtocolError      it answered what no honest agent answers
    ├── ArchiveError                the archive
    │   ├── ArchiveUnavailable      it does not answer now; the same may work later
    │   └── Corrupt                 a blob whose bytes do not match its digest
    ├── RegistryError               the registry that versions are pushed to said no
    │   └── RegistryUnavailable     it does not answer, or not now: worth trying again
    ├── StatementError              a signed statement that does not hold
    └── HostError                   a prerequisite of this host is missing (`workspaces doctor` tells the fix)

Foreign exceptions (docker, sqlite3, OSError) become one of these in the layer that imports their library.
A message is one sentence for the person who meets it; `hint` says what to do next.
"""

from __future__ import annotations


class WorkspacesError(Exception):
    """Base of all errors shown to people: `message` is what happened, `hint` what to do about it."""

    exit_status = 1
    http_status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(WorkspacesError):
    exit_status = 2
    http_status = 400


class SettingsError(UsageError):
    pass


class InvalidInput(WorkspacesError):
    http_status = 400


class NotFound(WorkspacesError):
    http_status = 404


class Conflict(WorkspacesError):
    http_status = 409


class Refused(WorkspacesError):
    http_status = 403


class StoreError(WorkspacesError):
    pass


class StoreBusy(StoreError):
    http_status = 503


class StoreTooNew(StoreError):
    pass


class EngineError(WorkspacesError):
    pass


class EngineUnfit(EngineError):
    """The engine answers, but cannot be used."""


class EngineUnavailable(EngineError):
    http_status = 503


class EngineTimeout(EngineError):
    http_status = 504


class NoSpace(EngineError):
    http_status = 507


class GuestError(WorkspacesError):
    pass


class GuestUnavailable(GuestError):
    http_status = 503


class GuestProtocolError(GuestError):
    pass


class ArchiveError(WorkspacesError):
    pass


class ArchiveUnavailable(ArchiveError):
    http_status = 503


class Corrupt(ArchiveError):
    pass


class RegistryError(WorkspacesError):
    http_status = 502


class RegistryUnavailable(RegistryError):
    http_status = 503


class StatementError(WorkspacesError):
    pass


class HostError(WorkspacesError):
    pass
