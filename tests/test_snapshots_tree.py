"""A report's paths as a tree: every path counted, rows bounded, what was warned of first."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from workspaces.model import Change, ChangeReport, Finding, Unlisted
from workspaces.snapshots import review
from workspaces.snapshots.tree import Row, fold, lines


def report(*entries: Change, unlisted: tuple[Unlisted, ...] = (), secrets: tuple[Finding, ...] = ()) -> ChangeReport:
    count = len(entries) + sum(rest.count for rest in unlisted)
    size = sum(entry.size for entry in entries) + sum(rest.size for rest in unlisted)
    return ChangeReport(1.0, "base:1", count, 0, 0, size, entries, unlisted=unlisted, secrets=secrets)


def added(path: str, size: int = 1, mode: int = 0o100644) -> Change:
    return Change("added", path, size, mode)


def every(row: Row) -> list[Row]:
    return [row, *(found for child in row.rows for found in every(child))]


def text(whole: ChangeReport, rows: int = 40, each: int = 12) -> list[str]:
    return list(lines(fold(whole, rows=rows, each=each)))


def test_directories_have_what_is_below_them_largest_first() -> None:
    whole = report(
        added("/root/small", 10),
        added("/root/work", 0, 0o40755),
        added("/root/work/model.bin", 3 << 20),
        Change("changed", "/etc/hosts.allow", 2048, 0o100644),
        Change("removed", "/root/gone"),
        added("/root/work/tool", 5, 0o104755),
        unlisted=(Unlisted("/usr/lib/x", 2000, 1 << 20),),
        secrets=(Finding("/root/small", "github-pat"),),
    )
    assert text(whole) == [
        "    4.0 MiB    /  (2,006 paths)",
        "    3.0 MiB      root  (5 paths)",
        "    3.0 MiB      + work  (3 paths)",
        "        5 B        + tool  [setuid]",
        "    3.0 MiB        + model.bin",
        "       10 B      + small  [secret: github-pat]",
        "                 - gone",
        "    1.0 MiB      usr/lib/x  (2,000 paths)",
        "    2.0 KiB    ~ etc/hosts.allow",
    ]


def test_what_does_not_fit_is_counted() -> None:
    whole = report(*(added(f"/data/f{n:03d}", n) for n in range(100)))
    found = text(whole, each=3)
    assert found[1:] == [
        "    4.8 KiB      data  (100 paths)",
        "       99 B      + f099",
        "       98 B      + f098",
        "       97 B      + f097",
        "    4.5 KiB        … and 97 more",
    ]
    assert len(text(whole, rows=2, each=50)) <= 4
    assert len(text(report(*(added(f"/f{n}") for n in range(4))), each=3)) == 5  # one row more instead of "1 more"


def test_what_was_warned_of_is_unfolded_before_what_is_large() -> None:
    whole = report(
        *(added(f"/big{n}/file{m}", 1 << 20) for n in range(10) for m in range(9)),
        added("/tiny/a/secret", 1),
        added("/tiny/b", 1),
        secrets=(Finding("/tiny/a/secret", "private-key"),),
    )
    assert any("private-key" in line for line in text(whole, rows=15))


def test_hostile_names_and_depths() -> None:
    deep = "/a" * 2000
    whole = report(added(deep), added("/x\x1b[2J\n\u202egnp"), added("//double//slash"), added("/"))
    top = fold(whole, rows=100, each=10)
    assert "\x1b" not in "\n".join(lines(top))
    assert top.count == 4
    assert max(len(row.path.split("/")) for row in every(top)) < 2002
    many = [added(f"/{n}" + "/d" * 1500) for n in range(2000)]
    began = time.process_time()
    fold(report(*many), rows=1500, each=100)
    assert time.process_time() - began < 5


PATHS = st.lists(st.text("ab/", min_size=1, max_size=12), max_size=40)


@given(PATHS, st.integers(1, 30), st.integers(1, 8))
def test_every_path_is_counted_once(paths: list[str], rows: int, each: int) -> None:
    whole = report(*(added("/" + path, len(path)) for path in paths), unlisted=(Unlisted("/a", 7, 70),))
    top = fold(whole, rows=rows, each=each)
    found = every(top)
    assert len(found) - 1 <= rows
    assert (top.count, top.size) == (len(paths) + 7, whole.bytes)
    for row in found:
        own = row.count - sum(child.count for child in row.rows) - row.more
        assert own >= 0
        assert len(row.rows) <= each + 1
        if row is top:
            assert own == sum(not path.strip("/") for path in paths)


def test_a_long_report_keeps_what_matters_and_counts_the_rest() -> None:
    package = [added(f"/a/lib/p{n % 7}/f{n}", 5) for n in range(9000)]
    mine = [added("/root/.netrc", 9), added("/root/result", 9), added("/usr/bin/su", 9, 0o104755), added("/z/key", 9)]
    whole = report(*package, *mine, secrets=(Finding("/z/key", "private-key"),))
    kept = review.shortened(whole)
    assert len(kept.entries) == review.KEPT
    assert {change.path for change in mine} <= {change.path for change in kept.entries}
    assert sum(rest.count for rest in kept.unlisted) == len(whole.entries) - review.KEPT
    assert sum(rest.size for rest in kept.unlisted) + sum(e.size for e in kept.entries) == whole.bytes
    assert {rest.path for rest in kept.unlisted} <= {f"/a/lib/p{n}" for n in range(7)}
    assert fold(kept, rows=40, each=12).count == len(whole.entries)
    wide = review.shortened(report(*(added(f"/d{n}/e/f", 1) for n in range(9000))))
    assert [rest.path for rest in wide.unlisted] == ["/"]
