"""Trees of changes on pages, and reports that are kept as the queue shows them."""

from __future__ import annotations

import time
from dataclasses import replace

from flask import Flask

from tests.support.sample import report
from tests.support.web import Web, web_fixture  # noqa: F401
from webadmin.reports import KEPT, Reports
from webadmin.trees import branches
from workspaces.model import Change, ChangeReport
from workspaces.snapshots.tree import fold

HOSTILE = '<script>alert("x")</script>&\u202etxt.exe'


def tree_of(found: ChangeReport) -> str:
    app = Flask("tree")
    with app.test_request_context():
        return str(branches(fold(found, rows=50, each=10, first=5)))


def test_names_are_escaped_and_written_out() -> None:
    entries = [Change("added", f"/root/{HOSTILE}/{name}", 5, 0o100644) for name in ("a'b", HOSTILE)]
    found = tree_of(replace(report(1.0, []), entries=tuple(entries), added=2, bytes=10))
    assert "<script" not in found
    assert "\u202e" not in found
    assert "&lt;script&gt;" in found
    assert "\\u202etxt.exe" in found
    assert "a&#39;b" in found


def test_directories_open_and_what_is_left_out_is_counted() -> None:
    paths = [("added", f"/srv/{n % 3}/file{n}", n) for n in range(90)] + [("removed", "/etc/gone", 0)]
    found = tree_of(report(1.0, paths))
    assert found.count("<details") == found.count("</details>") > 1
    assert found.count("<li") == found.count("</li>")
    assert "<details open>" in found
    assert "more, " in found
    assert '<span class="row removed">' in found
    gone = found[found.index("gone") :]
    assert '<span class="size"></span>' in gone[: gone.index("</li>")]


def test_a_report_is_read_once_until_another_takes_its_place(web: Web) -> None:
    id_ = web.request("alice")
    web.store.set_changes(id_, report(time.time(), [("added", "/root/one", 1), ("added", "/root/two", 2)]))
    reports, read = Reports(), []
    changes = web.store.changes

    def counted(snapshot_id: int) -> ChangeReport | None:
        read.append(snapshot_id)
        return changes(snapshot_id)

    web.store.changes = counted  # type: ignore[method-assign]
    first = reports.briefs(web.store, [id_, 999])
    assert list(first) == [id_]
    assert first[id_].report.added == 2
    assert len(first[id_].report.entries) == 1
    assert first[id_].tree.count == 2
    assert reports.briefs(web.store, [id_])[id_] is first[id_]
    web.store.set_changes(id_, report(time.time() + 1, [("removed", "/root/one", 0)]))
    assert reports.briefs(web.store, [id_])[id_].report.removed == 1
    assert read == [id_, id_]


def test_no_more_reports_are_kept_than_that() -> None:
    class Many:
        def changes_listed(self, ids: list[int]) -> dict[int, float]:
            return dict.fromkeys(ids, 1.0)

        def changes(self, number: int) -> ChangeReport:
            return report(1.0, [("added", f"/{number}", 1)])

    reports = Reports()
    reports.briefs(Many(), range(KEPT + 20))  # type: ignore[arg-type]
    assert len(reports._kept) == KEPT
    assert min(reports._kept) == 20
