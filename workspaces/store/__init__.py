"""The store: everything that must survive, in one SQLite file of the state directory.

    Store ─ users.py       accounts, keys  roles.py        roles in challenges
          ─ challenges.py  challenges     authorities.py  whose certificates are believed
          ─ workspaces.py  workspaces, members
          ─ snapshots.py   requests, decisions, versions   contents.py  change reports, configurations
          ─ jobs.py        the queue of the worker   retries.py  trying again, cancelling
          ─ news.py        news for people       deliveries.py  mail and webhooks on their way
          ─ freezes.py     challenges that are committed as a whole   reports.py  what jobs found, base images
          ─ events.py      who did what          sessions.py  who is on, and was
          ─ lists.py       parts of lists, searched and sorted   finding.py, searching.py  how
          ─ signins.py     browsers that are signed in    factors.py  passkeys, recovery codes
          ─ identities.py  OpenID accounts, invitations
          ─ tokens.py      programs, and what they were answered   figures.py  what is counted for a monitor
          ─ notices.py     lines for those who are on   announcements.py  for all, for a time
          ─ recordings.py  of terminals, and who looked at them
          ─ usage.py       what workspaces and the host used   topics.py  whether what a page shows has changed
          ─ connection.py  connections, transactions, errors     migrations.py  the tables

Any number of threads and processes use one file at once. Each method is one transaction: it returns when its change
is on disk, or raises and changed nothing. `transaction()` makes several calls one. Where a person acts, `actor` names
them and the record of it is a part of the same transaction. Times are seconds since the epoch; whoever may do what is
the caller's business, what is possible is checked here.
"""

from __future__ import annotations

from pathlib import Path

from workspaces.store.announcements import Announcements
from workspaces.store.factors import Factors
from workspaces.store.figures import Figures
from workspaces.store.freezes import Freezes
from workspaces.store.identities import Identities
from workspaces.store.lists import Lists
from workspaces.store.news import News
from workspaces.store.recordings import Recordings
from workspaces.store.reports import Reports, found_changes
from workspaces.store.signins import SignIns
from workspaces.store.snapshots import check_kept
from workspaces.store.tokens import Tokens
from workspaces.store.topics import Topics
from workspaces.store.usage import UsageTables

__all__ = ["Store", "check_kept", "found_changes"]


class Store(
    News,
    Freezes,
    Announcements,
    Recordings,
    SignIns,
    Factors,
    Identities,
    UsageTables,
    Topics,
    Lists,
    Reports,
    Tokens,
    Figures,
):
    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the database at `path`, made or brought up to date first; its directory must exist.

        Raises StoreTooNew for a file that a newer version wrote, StoreBusy, and StoreError for a damaged file,
        another program's, or one that cannot be read.
        """
        return cls(path)
