"""Looking into what a container changed: secrets, copies of mounted data, packages, each within a budget.

    changed paths ─► files (engine) ─┬─► secrets.py   kinds of secrets by path
                                     ├─► copies.py    path of the data that a file is a copy of
                                     └─► packages.py  what was installed and removed since the image
    what an earlier look found in files that have not changed since is taken over

A budget that is used up ends that part only, and the report says what was not looked at.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from workspaces.engine.base import Engine, Files, Progress
from workspaces.model import Change, ChangeReport, Finding, Mount, PackageChange
from workspaces.names import amount
from workspaces.snapshots import packages
from workspaces.snapshots.copies import Indexed, Mounts, Spend
from workspaces.snapshots.secrets import FILE_MAX, Scanner, ScannerFailed, likelihood

SECRET_BYTES = 1 << 30
SECRET_SECONDS = 60.0
COPY_BYTES = 32 << 30
COPY_SECONDS = 120.0
FINDINGS_MAX = 1000  # kept of each sort
CLOCK = 2.0  # seconds by which a file's time of change may be behind the clock


class Spent(Exception):
    """The budget is used up."""


@dataclass
class Budget:
    """How many bytes may still be read, and until when."""

    bytes: int
    seconds: float
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    def spend(self, size: int) -> None:
        """`size` bytes are about to be read. Raises Spent."""
        self.bytes -= size
        if self.bytes < 0 or time.monotonic() > self.deadline:
            raise Spent


@dataclass
class Missed:
    """Files that were not looked at for one reason."""

    count: int = 0
    size: int = 0

    def add(self, change: Change) -> None:
        self.count += 1
        self.size += change.size

    def said(self) -> str:
        return f"{self.count:,} {'file' if self.count == 1 else 'files'} ({amount(self.size)})"


class Examiner:
    """One look at one container. `cache` is a directory for compiled rules; `previous` an earlier look's report."""

    def __init__(
        self, files: Files, report: ChangeReport, previous: ChangeReport | None, cache: Path, progress: Progress
    ) -> None:
        self._files = files
        self._report = report
        self._cache = cache
        self._progress = progress
        self._regular = [c for c in report.entries if c.kind != "removed" and stat.S_ISREG(c.mode) and c.size > 0]
        self._since = previous.examined_at if previous is not None and previous.examined_at else None
        self._known = {entry.path: entry.size for entry in previous.entries} if previous and self._since else {}
        self._previous = previous
        self._complete = True
        self._notes: list[str] = []

    def look(self, mounts: Indexed, since: str) -> ChangeReport:
        """The report with what was found. `since` names the image that packages are counted against."""
        began = time.time()
        found = self._packages()
        copies = self._copies(mounts)
        secrets = self._secrets()
        return replace(
            self._report,
            packages=tuple(found),
            packages_since=since,
            copies=tuple(copies),
            secrets=tuple(secrets),
            warnings=(*self._report.warnings, *self._notes),
            examined_at=began if self._complete else None,
        )

    # secrets

    def _secrets(self) -> list[Finding]:
        found: list[Finding] = []
        large, late, failed, unsearched = Missed(), Missed(), Missed(), Missed()
        for change in self._report.entries:
            if (
                change.kind != "removed" and not change.mode
            ):  # Docker's list has no right name for it, or it is too deep
                failed.add(change)
        budget = Budget(SECRET_BYTES, SECRET_SECONDS)
        spent, broken = False, ""
        with Scanner(self._cache, SECRET_SECONDS) as scanner:
            for change in sorted(self._regular, key=likelihood):
                self._progress("Looking for secrets", None)
                if change.size > FILE_MAX:
                    large.add(change)
                elif broken:
                    unsearched.add(change)
                elif spent or len(found) >= FINDINGS_MAX:
                    late.add(change)
                else:
                    try:
                        kinds = self._kinds(change, scanner, budget)
                    except Spent:
                        spent = True
                        late.add(change)
                        continue
                    except ScannerFailed as exc:
                        broken = str(exc)
                        unsearched.add(change)
                        continue
                    if kinds is None:
                        failed.add(change)
                    else:
                        found += [Finding(change.path, kind) for kind in kinds]
        self._missed(large, "not searched for secrets: larger than " + amount(FILE_MAX))
        self._missed(
            failed,
            "not searched for secrets: a name that is not UTF-8, a path too deep, no file by now, "
            "or a search that did not end",
        )
        self._missed(unsearched, f"not searched for secrets: the scanner does not work, {broken}")
        self._missed(late, "not searched for secrets: the search took too long")
        if late.count or unsearched.count:
            self._complete = False
        return found[:FINDINGS_MAX]

    def _kinds(self, change: Change, scanner: Scanner, budget: Budget) -> tuple[str, ...] | None:
        file = self._files.open(change.path)
        if file is None:
            return None
        with file:
            if self._unchanged(change, file) and self._previous is not None:
                return tuple(finding.what for finding in self._previous.secrets if finding.path == change.path)
            budget.spend(change.size)
            try:
                kinds = scanner.scan(_read(file, FILE_MAX))
            except OSError:
                kinds = None
            if kinds is None:
                self._complete = False  # a later look must not take it for searched
            return kinds

    # copies of mounted data

    def _copies(self, mounts: Indexed) -> list[Finding]:
        for mount, index in mounts:
            if not index.whole:
                self._notes.append(f"Only a part of {mount.target} was compared with what changed.")
        sizes = set().union(*(index.by_size for _, index in mounts))
        candidates = sorted((c for c in self._regular if c.size in sizes), key=lambda c: (c.size, c.path))
        found: list[Finding] = []
        late = Missed()
        budget = Budget(COPY_BYTES, COPY_SECONDS)
        spent = False

        def spend(size: int) -> None:
            self._progress("Comparing with the challenge's data", None)
            budget.spend(size)

        for change in candidates:
            if spent or len(found) >= FINDINGS_MAX:
                late.add(change)
                continue
            try:
                original = self._original(change, mounts, spend)
            except Spent:
                spent = True
                late.add(change)
            else:
                found += [Finding(change.path, original)] if original else []
        if late.count:
            self._complete = False
            self._missed(late, "not compared with the challenge's data: it took too long")
        return found

    def _original(self, change: Change, mounts: Indexed, spend: Spend) -> str | None:
        file = self._files.open(change.path)
        if file is None:
            return None
        with file:
            if self._unchanged(change, file) and self._previous is not None:
                return next((f.what for f in self._previous.copies if f.path == change.path), None)
            try:
                return DATA.original(file, change.size, mounts, spend)
            except OSError:
                return None

    # packages

    def _packages(self) -> list[PackageChange]:
        self._progress("Comparing packages", None)
        kinds = {change.path: change.kind for change in self._report.entries}
        found = packages.of_paths(self._report.entries)
        for system, paths, parse in packages.DATABASES:
            path = next((path for path in paths if path in kinds), None)
            if path is None:
                unread = packages.UNREAD.get(system)
                if unread and any(unread.search(path) for path in kinds):
                    self._notes.append(f"Packages of {system} changed; its database has a form that is not read.")
                continue
            before = parse(_all(self._files.open_base(path)))
            after = parse(_all(self._files.open(path) if kinds[path] != "removed" else None))
            if before is None or after is None:
                self._notes.append(f"Packages of {system} changed; {path} cannot be read.")
            else:
                found += packages.compare(system, before, after)
        if len(found) > packages.CHANGES_MAX:
            self._notes.append(f"Only {packages.CHANGES_MAX:,} of {len(found):,} changed packages are listed.")
        return found[: packages.CHANGES_MAX]

    # parts

    def _unchanged(self, change: Change, file: BinaryIO) -> bool:
        """Whether the earlier look saw this very content: only the kernel sets a file's time of change."""
        return (
            self._since is not None
            and self._known.get(change.path) == change.size
            and os.fstat(file.fileno()).st_ctime < self._since - CLOCK
        )

    def _missed(self, missed: Missed, what: str) -> None:
        if missed.count:
            self._notes.append(f"{missed.said()} {'was' if missed.count == 1 else 'were'} {what}.")


def examine(
    engine: Engine,
    name: str,
    report: ChangeReport,
    *,
    mounts: tuple[Mount, ...],
    since: str,
    previous: ChangeReport | None,
    cache: Path,
    progress: Progress,
    decided: bool,
) -> ChangeReport:
    """`report` of container `name` with what is in its files. Raises NotFound, EngineError.

    `since` names the image that it was made from; `previous` is an earlier report of the same container. Nobody reads
    the report before the commit unless it is `decided` on: then contents are not worth minutes of waiting for it.
    """
    if not decided:
        text = "Contents were not looked into: the program took this version by itself."
        return replace(report, warnings=(*report.warnings, text))
    files = engine.written(name)
    if files is None:
        text = "Contents were not looked into: the engine's storage driver shows no files."
        return replace(report, warnings=(*report.warnings, text))
    with closing(files):
        return Examiner(files, report, previous, cache, progress).look(DATA.indexed(mounts), since)


DATA = Mounts()  # of this process, the worker


def _read(file: BinaryIO, most: int) -> bytes:
    return b"".join(_chunks(file, most))


def _chunks(file: BinaryIO, most: int) -> Iterator[bytes]:
    while most > 0 and (data := file.read(min(most, io.DEFAULT_BUFFER_SIZE * 128))):
        most -= len(data)
        yield data


def _all(file: BinaryIO | None) -> bytes:
    """A package database; nothing when there is none, or none that can be read."""
    if file is None:
        return b""
    with file:
        try:
            return _read(file, packages.DATABASE_MAX)
        except OSError:
            return b""
