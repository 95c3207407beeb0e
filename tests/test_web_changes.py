"""What a request would capture, as administrators and the participant see it."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.support.sample import FOUND, report
from tests.support.web import Web, web_fixture

__all__ = ["web_fixture"]

PATHS = [
    ("added", "/root/als/train.csv", 8 << 20),
    ("added", "/root/.ssh/id_ed25519", 411),
    ("removed", "/root/old", 0),
]


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def looked_at(web: Web) -> int:
    request = web.request("alice")
    changes = report(0, PATHS, extra=300, warnings=("A warning that is long: " + "x" * 900 + " end.",))
    web.store.set_changes(request, replace(changes, **FOUND))
    return request


def test_the_request_page_has_the_tree(web: Web) -> None:
    page = web.browser("chief").get(f"/admin/snapshots/{looked_at(web)}").text
    said = text(page)
    assert "root / 3 paths" in said
    assert "usr/lib/R/library/survival/R / 300 paths" in said
    assert "… and 260 more," in said
    assert "train.csv copy of /data/train.csv 8.0 MiB" in said
    assert ".ssh/id_ed25519 secret: private-key 411 B" in said
    assert said.index("secret: private-key") < said.index("file0")  # before what a package brought
    assert "Not captured: /data; /dev/shm." in said
    assert "dpkg libblas3 3.11.0-2 → 3.12.0-3" in said
    assert "x end." in said
    assert page.count("<details open>") <= 6


def test_the_queue_has_a_smaller_one(web: Web) -> None:
    said = text(web.browser("chief").get("/admin/").text)
    looked_at(web)
    assert "paths" not in said
    page = web.browser("chief").get("/admin/").text
    assert "… and 292 more," in text(page)
    assert page.count('class="row') <= 25


def test_a_participant_sees_everything_about_own_files_and_nobody_elses(web: Web) -> None:
    looked_at(web)
    said = text(web.browser("alice").get("/me").text)
    assert "secret: private-key" in said
    assert "copy of /data/train.csv" in said
    assert "pip xgboost 2.1.1" in said
    assert "Not captured: /data; /dev/shm." in said
    assert "secret: private-key" not in text(web.browser("bob").get("/me").text)
