"""Which packages a container added, removed or upgraded: pure, databases as bytes and changed paths in, changes out.

    dpkg  /var/lib/dpkg/status            RFC 822 paragraphs, deb-control(5); of its image and of the container
    apk   /lib/apk/db/installed           letters and colons, apk-tools' database format, likewise
    rpm   …/rpm/rpmdb.sqlite              header blobs of the table Packages, likewise; other formats are not read
    pip   …/NAME-VERSION.dist-info        directories' names, PyPA's "Recording installed projects"
    conda …/conda-meta/NAME-VERSION-BUILD.json

All of it is written by the container's root: sizes, counts and lengths are bounded, and what makes no sense is skipped.
"""

from __future__ import annotations

import io
import itertools
import re
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from workspaces.model import Change, PackageChange

DATABASE_MAX = 64 << 20  # bytes of one database
PACKAGES_MAX = 20_000  # of one system
CHANGES_MAX = 2000  # kept in a report
LINES_MAX = 1_000_000  # of one database, which are looked at
WORD_MAX = 128  # characters of a name or version
BLOB_MAX = 1 << 20  # of an rpm header
STEPS_MAX = 10_000  # thousands of SQLite's instructions

Versions = dict[str, str]

_DIST_INFO = re.compile(r"/([A-Za-z0-9][\w.]*)-([^/-][^/]*)\.(?:dist|egg)-info(?:/(?:METADATA|PKG-INFO))?$")
_CONDA = re.compile(r"/conda-meta/([^/]+)-([^/-]+)-[^/-]+\.json$")


def dpkg(data: bytes) -> Versions:
    """Installed packages of dpkg's status file; one of a foreign architecture is `name:arch`."""
    found: dict[tuple[str, str], str] = {}
    native = ""
    for fields in _paragraphs(data, (b"Package", b"Version", b"Status", b"Architecture")):
        name, architecture = _word(fields.get(b"Package")), _word(fields.get(b"Architecture"))
        if name and fields.get(b"Status", b"").split()[-1:] == [b"installed"] and len(found) < PACKAGES_MAX:
            found[name, architecture] = _word(fields.get(b"Version"))
            native = architecture if name == "dpkg" else native
    return {name if of in (native, "all") else f"{name}:{of}": version for (name, of), version in found.items()}


def apk(data: bytes) -> Versions:
    """Packages of apk's installed database."""
    found: Versions = {}
    for fields in _paragraphs(data, (b"P", b"V")):
        if (name := _word(fields.get(b"P"))) and len(found) < PACKAGES_MAX:
            found[name] = _word(fields.get(b"V"))
    return found


def rpm(data: bytes) -> Versions | None:
    """Packages of an rpmdb.sqlite; None when it cannot be read. A package in several versions has them all."""
    if data[:16] != b"SQLite format 3\0":
        return None if data else {}
    found: Versions = {}
    try:
        with closing(sqlite3.connect(":memory:")) as memory:
            memory.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, BLOB_MAX)
            # A database in memory has no write-ahead log: bytes 18 and 19 of the file say that it wants one.
            memory.deserialize(data[:18] + b"\1\1" + data[20:])
            memory.execute("PRAGMA trusted_schema = OFF")
            steps = itertools.count()
            memory.set_progress_handler(lambda: next(steps) > STEPS_MAX, 1000)
            made = memory.execute("SELECT sql FROM sqlite_master WHERE name = 'Packages' AND type = 'table'").fetchone()
            if made is None or not re.match(r"CREATE TABLE\b", str(made[0])):
                return None
            for number, (blob,) in enumerate(memory.execute("SELECT blob FROM Packages")):
                if number >= PACKAGES_MAX:
                    break
                if isinstance(blob, bytes) and (package := _rpm_header(blob)):
                    name, version = package
                    found[name] = f"{found[name]}, {version}"[:WORD_MAX] if name in found else version
    except sqlite3.Error:
        return None
    return found


def compare(system: str, before: Versions, after: Versions) -> list[PackageChange]:
    """What differs, sorted by name."""
    return [
        PackageChange(system, name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def of_paths(entries: Iterable[Change]) -> list[PackageChange]:
    """Packages of pip and conda, from the names of changed paths, sorted.

    A package in several environments counts once for each version that came or went.
    """
    gone: dict[tuple[str, str, str], set[str]] = {}
    come: dict[tuple[str, str, str], set[str]] = {}
    for entry in entries:
        for system, pattern in (("pip", _DIST_INFO), ("conda", _CONDA)):
            match = pattern.search(entry.path)
            if match and entry.kind != "changed":
                name = re.sub(r"[-_.]+", "-", match[1]).lower() if system == "pip" else match[1]
                place = entry.path[: match.start()]
                side = gone if entry.kind == "removed" else come
                side.setdefault((system, _short(name), place), set()).add(_short(match[2]))
    found = set()
    for system, name, place in gone.keys() | come.keys():
        old, new = (side.get((system, name, place), set()) for side in (gone, come))
        for before, after in _pairs(old - new, new - old):
            found.add(PackageChange(system, name, before, after))
    return sorted(found, key=lambda c: (c.system, c.name, c.before or "", c.after or ""))


# Where each system keeps what is installed, and how that is read. The first of them that the container changed counts.
DATABASES: tuple[tuple[str, tuple[str, ...], Callable[[bytes], Versions | None]], ...] = (
    ("dpkg", ("/var/lib/dpkg/status",), dpkg),
    ("apk", ("/lib/apk/db/installed", "/usr/lib/apk/db/installed"), apk),
    ("rpm", ("/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite"), rpm),
)
# Their presence among the changed paths means packages of a format that is not read.
UNREAD = {
    "rpm": re.compile(r"/(?:var/lib|usr/lib/sysimage)/rpm/(?:Packages(?:\.db)?|rpmdb\.sqlite-wal)$"),
    "dpkg": re.compile(r"/var/lib/dpkg/status\.d/[^/]+$"),
}


def _pairs(old: set[str], new: set[str]) -> Iterator[tuple[str | None, str | None]]:
    if len(old) == len(new) == 1:
        yield next(iter(old)), next(iter(new))
        return
    yield from ((version, None) for version in old)
    yield from ((None, version) for version in new)


def _paragraphs(data: bytes, wanted: tuple[bytes, ...]) -> Iterator[dict[bytes, bytes]]:
    """The wanted fields of each paragraph, one-line values only."""
    fields: dict[bytes, bytes] = {}
    for line in itertools.islice(io.BytesIO(data), LINES_MAX):  # not a list of millions of them
        if not line.strip():
            if fields:
                yield fields
            fields = {}
            continue
        name, separator, value = line.partition(b":")
        if separator and name in wanted and name not in fields:
            fields[name] = value[: 4 * WORD_MAX].strip()
    if fields:
        yield fields


def _rpm_header(blob: bytes) -> tuple[str, str] | None:
    """Name and epoch:version-release of an rpm header: rpm.org's "RPM V4 package format", without the lead-in."""
    if not 8 <= len(blob) <= BLOB_MAX:
        return None
    count, length = struct.unpack(">II", blob[:8])
    start = 8 + 16 * count
    if count > 4096 or start + length > len(blob):
        return None
    values: dict[int, str] = {}
    for number in range(count):
        tag, kind, offset, _ = struct.unpack_from(">IIII", blob, 8 + 16 * number)
        if offset >= length or tag not in (1000, 1001, 1002, 1003):
            continue
        if kind == 6:  # a string
            values[tag] = _word(blob[start + offset : start + offset + 4 * WORD_MAX].partition(b"\0")[0])
        elif kind == 4 and offset + 4 <= length:  # a number: the epoch
            values[tag] = str(struct.unpack_from(">I", blob, start + offset)[0])
    if not values.get(1000):
        return None
    epoch = f"{values[1003]}:" if 1003 in values else ""
    release = f"-{values[1002]}" if values.get(1002) else ""
    return values[1000], _short(f"{epoch}{values.get(1001, '')}{release}")


def _word(value: bytes | None) -> str:
    return _short((value or b"").decode("utf-8", "replace"))


def _short(text: str) -> str:
    return text if len(text) <= WORD_MAX else text[: WORD_MAX - 1] + "…"
