"""What is done to the archive, all of it by the worker, and what it found. Pages and API share it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from webadmin.actions import findings
from webadmin.i18n import _
from workspaces import snapshots
from workspaces.errors import Conflict, NotFound
from workspaces.model import Job, JobKind, Snapshot
from workspaces.store import Store

KINDS: Mapping[str, JobKind] = {"usage": JobKind.USAGE, "verify": JobKind.VERIFY, "gc": JobKind.GC}
NAME = "archive"  # what is typed to delete from it


def look(store: Store, kind: str, *, actor: str) -> Job:
    """Count, read again, or look for what nothing refers to: `kind` is of KINDS. None of it changes the archive."""
    return store.add_job(KINDS[kind], actor=actor)


def check_collectable(store: Store) -> None:
    """Raise Conflict unless it is known what would be deleted: somebody looked, and nothing was deleted since."""
    found = findings.latest(store, JobKind.GC)
    if found is None or found.document.get("deleted", True):
        raise Conflict(
            _("It is not known what would be deleted."), _("Look for what nothing refers to first; then delete it.")
        )


def collect(store: Store, *, actor: str) -> Job:
    """Have deleted what no version refers to. Raises Conflict."""
    check_collectable(store)
    return store.add_job(JobKind.GC, actor=actor, arguments={"delete": "yes"})


def due(store: Store, slug: str) -> list[Snapshot]:
    """The versions that the rules of a challenge do not keep. Raises NotFound, also when they keep every one."""
    if store.challenge(slug).keep_last is None:
        raise NotFound(_("The rules of %(challenge)s keep every version.", challenge=slug))
    return snapshots.due(store, slug)


def mark(versions: Iterable[Snapshot]) -> str:
    """Another one for each set of versions, to know whether what was shown is still what would be done."""
    return hashlib.sha256(_numbers(versions).encode()).hexdigest()[:32]


def prune(store: Store, slug: str, *, seen: str | None = None, actor: str) -> Job:
    """Have those removed, and no others, whatever the rules say when the worker comes to it; their records stay.

    `seen` is the mark of what somebody agreed to: Conflict when it is something else by now. Raises NotFound.
    """
    with store.transaction():
        found = due(store, slug)
        if seen is not None and seen != mark(found):
            raise Conflict(_("By now other versions would be removed."), _("Look at them, and confirm it again."))
        arguments = {"challenge": slug, "versions": _numbers(found)}
        return store.add_job(JobKind.PRUNE, actor=actor, arguments=arguments)


def _numbers(versions: Iterable[Snapshot]) -> str:
    return ",".join(str(version.id) for version in versions)
