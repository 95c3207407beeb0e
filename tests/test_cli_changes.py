"""`snapshot show`: what changed, on a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.sample import FOUND, report
from workspaces.cli.changes import EACH, ROWS, print_changes
from workspaces.model import PackageChange, Unlisted

PATHS = [("added", "/root/als/train.csv", 8 << 20), ("added", "/root/\x1b[2Jx", 1), ("removed", "/root/old", 0)]
REPORT = replace(
    report(0, PATHS, extra=900, warnings=("Look \x1b[31mhere.",)),
    unlisted=(Unlisted("/opt/conda", 40_000, 3 << 30),),
    added=40_902,
    **FOUND,
)


def test_the_largest_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(REPORT, everything=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    found = out.splitlines()
    assert found[0].startswith("since debian-ds:12, as of 1970-01-01 00:00:00: 40902 added, 0 changed, 1 removed, ")
    assert "packages since debian-ds:12: 2 added, 1 changed, 1 removed" in found
    assert "  ~ dpkg  libblas3 3.11.0-2 → 3.12.0-3" in found
    assert "  - pip   six 1.16.0" in found
    assert "  /dev/shm" in found
    assert "    8.0 MiB      + als/train.csv  [copy of /data/train.csv]" in found
    assert "    3.0 GiB      opt/conda  (40,000 paths)" in found
    tree = found[found.index("changed (every path: --all):") :]
    assert len(tree) <= 2 + ROWS + ROWS // EACH + 1


def test_everything_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(replace(REPORT, packages=tuple(PackageChange("apk", f"p{n}", None, "1") for n in range(50))), True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "  added       8.0 MiB  /root/als/train.csv  [copy of /data/train.csv]\n" in out
    assert "  40,000 more    3.0 GiB  below /opt/conda\n" in out
    assert out.count("/usr/lib/R/library/survival/R/file") == 900
    assert out.count("apk") == 50


def test_packages_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(replace(REPORT, packages=tuple(PackageChange("apk", f"p{n}", None, "1") for n in range(50))), False)
    assert "  … and 30 more: --all\n" in capsys.readouterr().out
