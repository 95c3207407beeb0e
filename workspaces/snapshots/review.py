"""What an administrator should know before approving: pure, changed paths and what was found in them in, sentences out.

all changed paths, findings (examining.py) ─► warnings ─► the paths that are kept by name, the rest by directory
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from workspaces.model import Change, ChangeReport, Finding, Mount, Unlisted
from workspaces.names import amount, printable
from workspaces.snapshots.secrets import kind_of_name, likelihood

WARN_LAYERS = 60
FLATTEN_LAYERS = 100  # a version of as many gets the base image's and one more
MAX_LAYERS = 120  # Docker's own ceiling is 125
LARGE_FILE = 1 << 30
LARGE_TOTAL = 5 << 30
NAMED = 5  # paths named in one warning
KEPT = 5000  # paths kept by name
DIRECTORIES = 500  # in which the rest is counted


def review(
    report: ChangeReport, *, since: str, layers: int, mounts: tuple[Mount, ...], since_is_version: bool
) -> ChangeReport:
    """`report` with warnings, with what a commit leaves out, and with no more paths than are kept.

    `since` names the image that it was counted against for people, `layers` is how many layers the version would have.
    """
    warnings = [*_found(report), *_names(report, since, since_is_version), *report.warnings]
    if report.is_nothing:
        warnings.insert(0, f"Nothing has changed since {since}.")
    if report.bytes >= LARGE_TOTAL:
        warnings.append(f"It adds {amount(report.bytes)}; a file with holes counts with its full size.")
    if layers > MAX_LAYERS:
        warnings.append(too_many_layers(layers))
    elif layers >= WARN_LAYERS:
        warnings.append(f"The version would have {layers} layers; at {FLATTEN_LAYERS} they are merged into one.")
    left_out = [
        *report.not_captured,
        *(f"{mount.target}: a data directory of the host" for mount in mounts),
        "file systems in memory, such as that at /dev/shm",
        "sockets, running processes and their memory",
        "/etc/hosts, /etc/hostname and /etc/resolv.conf, which the engine makes for each container",
    ]
    return shortened(
        replace(report, since=since, warnings=tuple(warnings), not_captured=tuple(dict.fromkeys(left_out)))
    )


def too_many_layers(layers: int) -> str:
    """Why a version with that many layers is not made."""
    return (
        f"The version would have {layers} layers, and engines stack few more than {MAX_LAYERS}: "
        "each restore of a version adds one."
    )


def shortened(report: ChangeReport) -> ChangeReport:
    """`report` with KEPT entries at most: those that were warned of, then where people work, large ones first."""
    if len(report.entries) <= KEPT:
        return report
    told = {finding.path for finding in (*report.secrets, *report.copies)}

    def order(change: Change) -> tuple[bool, int, int, str]:
        rank = likelihood(change)[0]
        return not (change.path in told or rank == 0 or is_privileged(change)), rank, -change.size, change.path

    entries = sorted(report.entries, key=order)
    kept = tuple(sorted(entries[:KEPT], key=lambda change: change.path))
    return replace(report, entries=kept, unlisted=(*report.unlisted, *_by_directory(entries[KEPT:])))


def is_privileged(change: Change) -> bool:
    """Whether it is a file with a set-user or set-group bit."""
    return stat.S_ISREG(change.mode) and bool(change.mode & (stat.S_ISUID | stat.S_ISGID))


def _by_directory(changes: list[Change]) -> list[Unlisted]:
    """Counted by the directories that they are in, or by higher ones so that there are DIRECTORIES at most."""
    parents = [change.path.rpartition("/")[0] for change in changes]
    for depth in (64, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1, 0):
        places = ["/".join(parent.split("/", depth + 1)[: depth + 1]) for parent in parents]
        if len(set(places)) <= DIRECTORIES:
            break
    counts, sizes = Counter(places), Counter[str]()
    for place, change in zip(places, changes, strict=True):
        sizes[place] += change.size
    return [Unlisted(place or "/", counts[place], sizes[place]) for place in sorted(counts)]


def _found(report: ChangeReport) -> Iterable[str]:
    """What contents showed."""
    if report.secrets:
        yield f"Secrets were found in files: {_listed(_with(report.secrets))}."
    if report.copies:
        yield f"Files of the challenge's data were copied: {_listed(_with(report.copies, 'from '))}."


def _names(report: ChangeReport, since: str, since_is_version: bool) -> Iterable[str]:
    """What names, sizes and modes show."""
    there = [change for change in report.entries if change.kind != "removed"]
    seen = {finding.path for finding in report.secrets}
    by_kind: dict[str, list[str]] = {}
    for change in there:
        if change.path not in seen and (kind := kind_of_name(change.path)):
            by_kind.setdefault(kind, []).append(change.path)
    for kind, found in by_kind.items():
        yield f"There may be {kind}: {_listed(found)}."
    if since_is_version:
        gone = [c.path for c in report.entries if c.kind == "removed" and kind_of_name(c.path)]
        if gone:
            yield f"Deleted, but still readable in {since} below it: {_listed(gone)}."
    marks = [c.path for c in there if "/.wh." in c.path]
    if marks:
        yield (
            "Names that begin with .wh. delete in an image: what they name will be missing in the version, "
            f"and they themselves: {_listed(marks)}."
        )
    setuid = [c.path for c in there if is_privileged(c)]
    if setuid:
        yield f"There are programs that run as their owner or group (setuid, setgid): {_listed(setuid)}."
    large = [f"{c.path} ({amount(c.size)})" for c in there if c.size >= LARGE_FILE]
    if large:
        yield f"There are very large files: {_listed(large)}."
    if len(report.entries) < report.paths:
        yield f"Only {len(report.entries)} of {report.paths} changed paths are listed and were looked at."


def _with(findings: Iterable[Finding], word: str = "") -> list[str]:
    what: dict[str, list[str]] = {}
    for finding in findings:
        what.setdefault(finding.path, []).append(finding.what)
    return [f"{printable(path, 120)} ({word}{printable(', '.join(kinds), 120)})" for path, kinds in what.items()]


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
    return ", ".join(printable(path, 280) for path in paths[:NAMED]) + more
