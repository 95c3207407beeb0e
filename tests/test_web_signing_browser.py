"""Signing in, in Chromium: passkeys with a virtual authenticator, codes, invitations and a real OpenID provider; by
keyboard, with names that would like to be markup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.provider import CLIENT, SECRET, provider
from tests.support.site import Site, browser_fixture, site_fixture  # noqa: F401
from tests.support.web import PASSWORD
from workspaces import totp
from workspaces.settings import Oidc

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script> \"'\u202e" + "W" * 40


def named(site: Site) -> Site:
    """The same by a name: passkeys are bound to one."""
    site.url = site.url.replace("127.0.0.1", "localhost")
    return site


def with_authenticator(page: Page) -> Callable[[bool], None]:
    """Give the browser a finger reader; gives what says whether the finger is the right one."""
    client = page.context.new_cdp_session(page)
    client.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = client.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def right(verified: bool) -> None:
        client.send("WebAuthn.setUserVerified", {"authenticatorId": made, "isUserVerified": verified})

    return right


def reach(page: Page, name: str) -> None:
    """Press Tab until the button or link of that name has the focus, then Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name} is not reached by keyboard")


def older(site: Site) -> None:
    site.store._db().execute("UPDATE sign_ins SET proven_at = proven_at - 601")


def test_a_passkey_from_first_to_last_by_keyboard(site: Site) -> None:
    alice = named(site).window("alice", "/account")
    finger = with_authenticator(alice)
    reach(alice, "Add a passkey…")
    alice.wait_for_url("**/account/passkeys/add")
    alice.reload()  # a key that still comes from the page before has Chromium leave the focus where it is
    expect(alice.get_by_label("What it is on")).to_be_focused()
    alice.keyboard.type(HOSTILE.replace("\u202e", ""))
    alice.keyboard.press("Enter")
    expect(alice.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert alice.locator(".recovery li").count() == 10
    reach(alice, "I have kept them")
    expect(alice.locator("#passkeys")).to_contain_text("<script>alert(1)</script>")
    reach(alice, "Sign out")

    # Without a name; a finger that is another's does not do.
    alice.wait_for_url("**/login")
    alice.reload()
    expect(alice.get_by_label("Name")).to_be_focused()
    finger(False)
    reach(alice, "Use a passkey")
    expect(alice.get_by_text("The passkey was not used.")).to_be_visible()
    finger(True)
    reach(alice, "Use a passkey")
    alice.wait_for_url("**/me")
    assert site.store.sign_ins("alice")[0].via == "passkey"

    # Before something dangerous, and then it goes on where it was.
    older(site)
    alice.goto(f"{site.url}/account")
    reach(alice, "Remove…")
    expect(alice.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    reach(alice, "Use a passkey")
    expect(alice.get_by_role("heading", name="Remove a passkey")).to_be_visible()
    assert alice.evaluate("document.documentElement.scrollWidth <= innerWidth")
    reach(alice, "Remove the passkey")
    expect(alice.get_by_text("The passkey is removed")).to_be_visible()
    assert site.store.passkeys("alice") == []


def test_after_the_password_comes_the_passkey(site: Site) -> None:
    bob = named(site).window("bob", "/account/passkeys/add")
    with_authenticator(bob)
    bob.get_by_label("What it is on").fill("telephone")
    bob.get_by_role("button", name="Make a passkey").click()
    code = bob.locator(".recovery code").first.inner_text()
    for finish in ("passkey", "code"):
        bob.get_by_role("banner").get_by_role("button", name="Sign out").click()
        bob.wait_for_url("**/login")
        bob.get_by_label("Name").fill("bob")
        bob.get_by_label("Password").fill(PASSWORD)
        bob.get_by_role("button", name="Sign in").click()
        expect(bob.get_by_role("heading", name="And your passkey")).to_be_visible()
        if finish == "passkey":
            bob.get_by_role("button", name="Use a passkey").click()
        else:
            bob.get_by_label("Recovery code").fill(code)
            bob.keyboard.press("Enter")
        bob.wait_for_url("**/me")
    assert site.store.recovery_codes_left("bob") == 9


def test_codes_are_set_up_and_asked_for(site: Site) -> None:
    alice = site.window("alice", "/account", java_script_enabled=False)
    alice.get_by_role("link", name="Set up…").click()
    box = alice.locator(".qr svg").bounding_box()
    assert box
    assert box["width"] > 100
    secret = alice.locator("#totp-secret").inner_text()
    shown = totp._totp(secret).generate(int(time.time())).decode()
    alice.get_by_role("textbox", name="Code").fill(shown)
    alice.keyboard.press("Enter")
    expect(alice.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert site.store.totp_secret("alice") == secret


def test_an_invitation_is_made_and_accepted(site: Site) -> None:
    site.store.add_user("dora", actor="test")
    chief = site.window("chief", "/admin/users/dora")
    older(site)
    chief.get_by_role("button", name="Make an invitation").click()
    chief.get_by_label("Password").fill(PASSWORD)
    chief.keyboard.press("Enter")
    chief.wait_for_url("**/admin/users/dora*")
    chief.get_by_role("button", name="Make an invitation").click()
    address = chief.locator("#invitation").inner_text()
    dora = site.window()
    dora.goto(address)
    dora.keyboard.type("a long password")
    dora.keyboard.press("Tab")
    dora.keyboard.type("a long password")
    dora.keyboard.press("Enter")
    dora.wait_for_url("**/me")
    dora.goto(address)
    expect(dora.get_by_text("This invitation is not good any more.")).to_be_visible()
    assert all("404" in said for said in site.said)
    site.said.clear()


def test_sign_ins_are_ended(site: Site) -> None:
    site.store.begin_sign_in("alice", "digest", via="password", address="<b>x</b>", browser=HOSTILE)
    alice = site.window("alice", "/account", viewport={"width": 360, "height": 740})
    expect(alice.locator("#sign-ins")).to_contain_text("<script>alert(1)</script>")
    assert alice.evaluate("document.documentElement.scrollWidth") <= 360
    reach(alice, "Sign out everywhere else")
    expect(alice.get_by_text("1 other browser is signed out.")).to_be_visible()
    assert len(site.store.sign_ins("alice")) == 1


def test_a_provider_signs_in(site: Site) -> None:
    named(site)
    parts = site.app.extensions["workspaces"]
    (parts.settings.keys / "oidc-secret").write_text(SECRET)
    (parts.settings.keys / "oidc-secret").chmod(0o600)
    with provider(f"{site.url}/login/oidc/callback") as issuer:
        object.__setattr__(parts.settings, "oidc", Oidc(issuer, CLIENT, HOSTILE))
        alice = site.window("alice", "/account")
        alice.get_by_role("link", name="Link my account at").click()
        alice.get_by_label("Claims").fill(json.dumps({"sub": "u-1", "email": HOSTILE}))
        alice.get_by_role("button", name="Sign in there").click()
        expect(alice.locator("#provider li")).to_contain_text("<script>alert(1)</script>")
        visitor = site.window()
        visitor.goto(f"{site.url}/login?next=/me")
        reach(visitor, visitor.get_by_role("link", name="Sign in with").inner_text())
        visitor.get_by_label("Claims").fill(json.dumps({"sub": "u-1"}))
        visitor.keyboard.press("Enter")
        visitor.wait_for_url("**/me")
    assert {one.via for one in site.store.sign_ins("alice")} == {"password", "oidc"}
