"""Package databases and names of changed paths: what was installed, and hostile ones."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.model import Change, PackageChange
from workspaces.snapshots import packages

STATUS = b"""\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Description: the package manager
 Version: 9.9 is not this package's version
Conffiles:
 /etc/x 0123

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u9

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9+deb12u9

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2024b-0

Package: old
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
APK = b"C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:ld-musl\n\nC:Q1y=\nP:busybox\nV:1.36.1-r29\n"


def header(**strings: str | int) -> bytes:
    """An rpm header with these tags, as rpm stores it in its database."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "summary": 1004}
    index, data = b"", b""
    for name, value in strings.items():
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
            index += struct.pack(">IIII", tags[name], 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tags[name], 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(strings), len(data)) + index + data


def rpmdb(path: Path, *blobs: object, journal: str = "WAL", kind: str = "TABLE") -> bytes:
    with sqlite3.connect(path) as made:
        made.execute(f"PRAGMA journal_mode = {journal}")
        if kind == "TABLE":
            made.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
            made.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
        else:
            made.execute(
                "CREATE VIEW Packages AS WITH RECURSIVE n(blob) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT * FROM n"
            )
    made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()
    return path.read_bytes()


def added(*paths: str, kind: str = "added") -> list[Change]:
    return [Change(kind, path, 1, 0 if kind == "removed" else 0o100644) for path in paths]


def test_dpkg() -> None:
    assert packages.dpkg(STATUS) == {
        "dpkg": "1.21.22",
        "libc6": "2.36-9+deb12u9",
        "libc6:i386": "2.36-9+deb12u9",
        "tzdata": "2024b-0",
    }


def test_apk() -> None:
    assert packages.apk(APK) == {"musl": "1.2.5-r0", "busybox": "1.36.1-r29"}


def test_rpm(tmp_path: Path) -> None:
    data = rpmdb(
        tmp_path / "rpmdb.sqlite",
        header(name="bash", version="5.2.26", release="3.el9", summary="a shell"),
        header(name="shadow-utils", epoch=2, version="4.9", release="8.el9"),
        header(name="kernel", version="5.14", release="1"),
        header(name="kernel", version="5.14", release="2"),
        header(version="nameless"),
        b"no header",
        "text",
        7,
    )
    assert packages.rpm(data) == {
        "bash": "5.2.26-3.el9",
        "shadow-utils": "2:4.9-8.el9",
        "kernel": "5.14-1, 5.14-2",
    }


def test_rpm_that_is_none(tmp_path: Path) -> None:
    good = rpmdb(tmp_path / "good.sqlite", header(name="a", version="1"))
    assert packages.rpm(b"") == {}
    assert packages.rpm(b"SQLite format 3\0" + b"\xff" * 5000) is None
    assert packages.rpm(b"berkeley" * 100) is None
    assert packages.rpm(good[: len(good) // 2]) is None
    endless = rpmdb(tmp_path / "view.sqlite", kind="VIEW")
    assert packages.rpm(endless) is None


def test_rpm_does_not_work_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is computed, for each row, by a long computation."""
    monkeypatch.setattr(packages, "STEPS_MAX", 10)
    path = tmp_path / "slow.sqlite"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE Packages (hnum INTEGER, blob BLOB AS (abs(hnum)) VIRTUAL)")
        made.executemany("INSERT INTO Packages (hnum) VALUES (?)", [(n,) for n in range(9000)])
    made.close()
    assert packages.rpm(path.read_bytes()) is None


def test_what_differs() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert packages.compare("apk", before, after) == [
        PackageChange("apk", "b", "1", "2"),
        PackageChange("apk", "c", "1", None),
        PackageChange("apk", "d", None, "1"),
    ]


def test_pip_and_conda_by_names_of_paths() -> None:
    site, venv = "/usr/lib/python3/dist-packages", "/root/venv/lib/python3.11/site-packages"
    paths = [
        *added(f"{site}/torch-2.4.0.dist-info", f"{site}/torch-2.4.0.dist-info/METADATA", f"{site}/torch/__init__.py"),
        *added(f"{venv}/torch-2.4.0.dist-info/METADATA", f"{venv}/Ruamel.YAML-0.18.6.dist-info/METADATA"),
        *added(f"{site}/numpy-2.1.0.dist-info/METADATA", "/opt/conda/conda-meta/r-base-4.3.1-h2fae1b3_0.json"),
        *added(f"{site}/numpy-1.26.4.dist-info", f"{site}/six-1.16.dist-info", kind="removed"),
        *added(f"{site}/kept-1.0.dist-info/METADATA", kind="changed"),
        *added("/opt/conda/conda-meta/history", "/root/x.dist-info/METADATA", "/root/-.dist-info"),
    ]
    assert packages.of_paths(paths) == [
        PackageChange("conda", "r-base", None, "4.3.1"),
        PackageChange("pip", "numpy", "1.26.4", "2.1.0"),
        PackageChange("pip", "ruamel-yaml", None, "0.18.6"),
        PackageChange("pip", "six", "1.16", None),
        PackageChange("pip", "torch", None, "2.4.0"),
    ]


@given(st.binary(max_size=400))
def test_any_bytes_are_read(data: bytes) -> None:
    packages.dpkg(b"Package: x\nStatus: a b installed\nVersion: " + data)
    packages.apk(b"P:" + data)
    packages._rpm_header(data)
    packages._rpm_header(struct.pack(">II", 1, 16) + data)


def test_a_database_of_millions_of_lines_takes_no_more_memory_than_its_own() -> None:
    data = b"ab\n" * (4 << 20)
    tracemalloc.start()
    try:
        assert packages.dpkg(data) == {}
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


def test_numbers_and_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES_MAX", 3)
    many = b"".join(b"P:%d\nV:%s\n\n" % (n, b"9" * 10_000) for n in range(10))
    found = packages.apk(many)
    assert len(found) == 3
    assert {len(version) for version in found.values()} == {packages.WORD_MAX}
