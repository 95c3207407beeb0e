"""What the pages say of open sessions and of disk use, and to whom."""

from __future__ import annotations

import time

from tests.support.web import Web, web_fixture  # noqa: F401
from tests.test_web_flows import text


def begin(web: Web, user: str, workspace: str, address: str = "192.0.2.7") -> int:
    return web.store.begin_session(user, web.workspace_id(workspace), "shell", address, "p", 1_800_000_000.0)


def test_members_see_who_is_on_in_their_own_workspaces_only(web: Web) -> None:
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    page = web.browser("alice").get("/me").text
    assert "On now" not in page
    begin(web, "alice", "team")
    begin(web, "bob", "team", "198.51.100.9")
    begin(web, "bob", "bob", "198.51.100.10")
    alice = web.browser("alice")
    for path in ("/me", "/me/live"):
        page = alice.get(path, headers={"X-Fragment": "1"}).text
        assert page.count("On now") == 1
        assert "bob (shell, began" in text(page)
        assert "alice (shell from 192.0.2.7, began" in text(page)
        assert "198.51.100" not in page  # where others are is theirs to tell
    bob = web.browser("bob").get("/me").text
    assert bob.count("On now") == 2
    assert "198.51.100.10" in bob
    assert "192.0.2.7" not in bob


def test_an_ended_session_goes_from_the_page(web: Web) -> None:
    number = begin(web, "alice", "alice")
    alice = web.browser("alice")
    assert "alice (shell" in text(alice.get("/me").text)
    web.store.end_session(number, 1_800_000_001.0)
    page = text(alice.get("/me").text)
    assert "alice (shell" not in page
    assert "Nobody is logged in." in page


def test_an_administrator_sees_who_is_on_and_from_where(web: Web) -> None:
    begin(web, "alice", "alice", "<b>\x1b[31m")
    page = web.browser("chief").get(f"/admin/workspaces/{web.workspace_id('alice')}").text
    assert "alice (shell from &lt;b&gt;\\x1b[31m, began" in text(page)
    assert "On now nobody" in text(web.browser("chief").get(f"/admin/workspaces/{web.workspace_id('bob')}").text)


def test_disk_use_is_on_every_page_of_a_workspace(web: Web) -> None:
    space = web.workspace_id("alice")
    chief, alice = web.browser("chief"), web.browser("alice")
    assert "Disk not known yet" in text(chief.get(f"/admin/workspaces/{space}").text)
    assert "to its disk" not in alice.get("/me").text
    web.store.set_workspace_disk(space, 1_288_490_188)
    assert "Disk 1.2 GiB written seen just now" in text(chief.get(f"/admin/workspaces/{space}").text)
    assert "1.2 GiB" in chief.get("/admin/workspaces").text
    web.store.set_challenge("als", closes_at=time.time() + 90_000, actor="chief")
    page = text(alice.get("/me").text)
    assert "1.2 GiB written to its disk, seen just now ." in page
    assert "Closes in 1 day 1 h :" in page
