"""Changes since an earlier version, from those since the image. Owners, and what an engine does not tell."""

from __future__ import annotations

import os
import stat

import pytest

from workspaces.engine.base import Earlier
from workspaces.engine.since import put_back, since_earlier

FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
ROOT = (100_000, 100_000)
WAS = Earlier(FILE, 0, 5, 10, 1000)


def status(
    mode: int = FILE, uid: int = 100_000, gid: int = 100_005, size: int = 10, mtime: int = 1000
) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, size, 0, mtime, 0), {"st_mtime_ns": mtime * 10**9 + 5})


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (status(), None),
        (status(mode=FILE | stat.S_ISUID), "changed"),
        (status(uid=100_001), "changed"),
        (status(gid=100_006), "changed"),
        (status(size=11), "changed"),
        (status(mtime=1001), "changed"),
        (None, "changed"),  # cannot be looked at
    ],
)
def test_what_is_there_is_compared_with_what_was(now: os.stat_result | None, kind: str | None) -> None:
    assert since_earlier("added", now, WAS, ROOT) == kind
    assert since_earlier("changed", now, WAS, ROOT) == kind


@pytest.mark.parametrize(("later", "kind"), [(-1.0, None), (1.0, "changed")])
def test_what_was_touched_after_the_commit_is_changed_whatever_its_times_say(later: float, kind: str | None) -> None:
    now = os.stat_result((FILE, 0, 0, 1, 100_000, 100_005, 10, 0, 1000, 0), {"st_mtime_ns": 10**12, "st_ctime": 5000.0})
    was = Earlier(FILE, 0, 5, 10, 1000, captured=5000.0 - later)
    assert since_earlier("added", now, was, ROOT) == kind


def test_what_was_not_there_is_added_and_what_was_is_removed() -> None:
    gone = Earlier(0, in_source=True)
    assert since_earlier("changed", status(), gone, ROOT) == "added"
    assert since_earlier("removed", None, gone, ROOT) is None
    assert since_earlier("removed", None, WAS, ROOT) == "removed"


def test_a_directory_is_not_changed_by_its_time() -> None:
    was = Earlier(DIRECTORY, 0, 5, 0, 7)
    assert since_earlier("changed", status(mode=DIRECTORY, size=4096), was, ROOT) is None
    assert since_earlier("changed", status(mode=DIRECTORY | 0o2000, size=4096), was, ROOT) == "changed"


def test_what_is_as_in_the_image_again() -> None:
    earlier = {
        "/d": Earlier(DIRECTORY),
        "/d/x": WAS,  # gone with its directory
        "/file": WAS,
        "/there": WAS,
        "/image/changed": Earlier(FILE, in_source=True),
        "/image/deleted": Earlier(0, in_source=True),
        "/image": Earlier(DIRECTORY, in_source=True),
        "/top/below": WAS,  # /top is of the image, and removed
    }
    found = dict(put_back({"/there": "added", "/top": "removed"}, earlier))
    assert found == {"/d": "removed", "/file": "removed", "/image/changed": "changed", "/image/deleted": "added"}
