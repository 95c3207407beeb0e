"""Invitations: the address, the first password, once; and what of a user an administrator sets on the page."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.web import PASSWORD, Web, web_fixture  # noqa: F401
from workspaces import accounts, recovery
from workspaces.cli.common import cli
from workspaces.errors import Conflict, NotFound
from workspaces.model import Role
from workspaces.rights import Rights

pytestmark = pytest.mark.slow

NEW = {"new": "a long password", "again": "a long password"}


def test_an_administrator_invites_and_the_person_sets_a_password(web: Web) -> None:
    web.store.add_user("dora", actor="test")
    chief, dora = web.browser("chief"), web.browser()
    page = chief.post("/admin/users/dora/invite").text
    found = re.search(r"http://localhost(/invite/[\w-]{43})", page)
    assert found
    path = found[1]
    assert "Welcome, dora" in dora.get(path).text
    assert "Welcome, dora" in web.browser().get(path).text  # looking uses nothing up
    assert "by chief" in chief.get("/admin/users/dora").text
    assert dora.post(path, {**NEW, "again": "another one"}).status_code == 400
    assert dora.post(path, {"new": "short", "again": "short"}).status_code == 400
    assert dora.post(path, NEW).location == "/"
    assert dora.get("/me").status_code == 200
    for again in (dora.get(path), dora.post(path, NEW)):
        assert again.status_code == 404
        assert "not good any more" in again.text
    assert web.browser().sign_in("dora", NEW["new"]).status_code == 302
    kinds = [event.kind for event in web.store.events(6)]
    assert {"user.invited", "user.invitation_accepted", "user.password_set"} <= set(kinds)
    assert path.rpartition("/")[2] not in "\n".join(web.store._db().conn.iterdump())


def test_invitations_end(web: Web) -> None:
    first = accounts.invite(web.store, "alice", actor="chief")
    second = accounts.invite(web.store, "alice", actor="chief")
    visitor = web.browser()
    assert visitor.get(f"/invite/{first}").status_code == 404  # there is one at a time
    assert visitor.get(f"/invite/{second}").status_code == 200
    web.store.set_disabled("alice", True, actor="chief")
    assert visitor.get(f"/invite/{second}").status_code == 404
    with pytest.raises(Conflict, match="disabled"):
        accounts.invite(web.store, "alice", actor="chief")
    web.store.set_disabled("alice", False, actor="chief")
    assert web.browser("chief").post("/admin/users/alice/invite/withdraw").status_code == 302
    assert visitor.get(f"/invite/{second}").status_code == 404
    late = accounts.invite(web.store, "alice", actor="chief", hours=-1)
    assert web.store.invitation_of("alice") is None
    with pytest.raises(NotFound):
        accounts.accept_invitation(web.store, late, PASSWORD)
    gone = accounts.invite(web.store, "alice", actor="chief")
    web.store.remove_user("alice", actor="chief")
    web.store.add_user("alice", actor="chief")
    assert visitor.get(f"/invite/{gone}").status_code == 404


def test_accepting_signs_out_whoever_knew_the_password_before(web: Web) -> None:
    alice = web.browser("alice")
    token = accounts.invite(web.store, "alice", actor="chief")
    assert web.browser().post(f"/invite/{token}", NEW).status_code == 302
    assert alice.get("/me").status_code == 302
    assert web.browser().sign_in("alice").status_code == 403


def test_an_invitation_is_no_way_around_a_second_factor(web: Web) -> None:
    web.store.set_totp_secret("alice", "A" * 32, actor="test")
    web.store.add_passkey("bob", "credential", b"key", 0, "laptop", actor="test")
    for name in ("alice", "bob"):
        token, visitor = accounts.invite(web.store, name, actor="chief"), web.browser()
        assert visitor.post(f"/invite/{token}", NEW).location == "/login"
        assert "Your password is set." in visitor.get("/login").text
        assert visitor.get("/me").status_code == 302
        assert web.store.sign_ins(name) == []


@pytest.mark.parametrize("token", ["x", "é", "%00", "..", "x" * 5000, "<script>", "%F0%9F%92%A9"])
def test_any_token_may_be_tried(web: Web, token: str) -> None:
    response = web.browser().get(f"/invite/{token}")
    assert response.status_code == 404
    assert "<script>" not in response.text.replace('<script src="', "")


def test_trying_tokens_is_limited_by_address(web: Web) -> None:
    token = accounts.invite(web.store, "alice", actor="chief")
    guesser = web.browser(REMOTE_ADDR="192.0.2.7")
    codes = [guesser.get("/invite/guess").status_code for _ in range(41)]
    assert (codes[0], codes[-1]) == (404, 429)
    assert guesser.get(f"/invite/{token}").status_code == 429
    assert web.browser(REMOTE_ADDR="192.0.2.8").get(f"/invite/{token}").status_code == 200


def test_the_command_prints_an_address(web: Web) -> None:
    def run(*arguments: str) -> str:
        home = str(Path(web.store.path).parent)
        result = CliRunner().invoke(cli, ["--home", home, "user", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    said = run("invite", "alice", "--for", "2d")
    found = re.search(r"http://127\.0\.0\.1:8080/invite/(\S+)", said)
    assert found
    invitation = web.store.find_invitation(recovery.digest(found[1]))
    assert invitation is not None
    assert 1.9 < (invitation.expires_at - time.time()) / 86400 < 2
    assert "No invitation of alice" in run("invite", "alice", "--withdraw")
    assert web.store.invitation_of("alice") is None
    alice = web.browser("alice")
    assert "1 browser" in run("sign-out", "alice")
    assert alice.get("/me").status_code == 302
    web.store.set_totp_secret("alice", "A" * 32, actor="test")
    run("reset-factors", "alice")
    assert web.store.totp_secret("alice") is None


def test_roles_are_set_on_the_users_page(web: Web) -> None:
    chief = web.browser("chief")
    assert chief.post("/admin/users/alice/role", {"role": "reviewer", "challenge": "als"}).status_code == 302
    assert web.store.rights_of("alice") == Rights(Role.PARTICIPANT, {"als": Role.REVIEWER})
    assert "in als" in chief.get("/admin/users/alice").text
    assert chief.post("/admin/users/alice/role", {"role": "admin"}).status_code == 302
    assert web.store.user("alice").role is Role.ADMIN
    for data, status in (
        ({"role": "king"}, 400),
        ({}, 400),
        ({"role": "admin", "challenge": "<script>"}, 404),
    ):
        assert chief.post("/admin/users/bob/role", data).status_code == status
    assert chief.post("/admin/users/chief/role", {"role": "participant"}).status_code == 409


def test_an_administrator_signs_somebody_out(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    assert "Sign out everywhere" in chief.get("/admin/users/alice").text
    chief.post("/admin/users/alice/sign-out")
    assert alice.get("/me").status_code == 302
