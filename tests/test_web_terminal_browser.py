"""The terminal in Chromium, over a real gateway: keys, letters, colours, floods, the way out, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import chromium
from tests.support.gateway import PASSWORD, Person, until
from tests.support.webgate import WebGate, web_gate
from workspaces import assets

pytestmark = pytest.mark.browser

AXE = assets.WEBADMIN / "assets/node_modules/axe-core/axe.min.js"
# The longest time for which the page answered nothing, while `work` went on.
WATCH = """() => {
  window.longest = 0;
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    window.longest = Math.max(window.longest, now - last);
    last = now;
  }, 20);
}"""


@dataclass
class Site:
    gate: WebGate
    browser: Browser
    said: list[str] = field(default_factory=list)

    def terminal(self, person: Person, **options: object) -> Page:
        """The terminal's page of that person, connected."""
        context = self.browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        assert person.workspace
        path = f"/me/workspaces/{person.workspace.id}/terminal"
        page.goto(f"{self.gate.url}/login?next={path}")
        page.get_by_label("Name").fill(person.name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"**{path}")
        expect(page.locator("#terminal-state")).to_have_text("Connected.", timeout=30_000)
        return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert assets.missing() == [], "make install brings them"
    with web_gate(tmp_path_factory.mktemp("web")) as gate, chromium() as browser:
        site = Site(gate, browser)
        yield site
        for context in browser.contexts:
            context.close()


def shows(page: Page, text: str, timeout: float = 20_000) -> None:
    expect(page.locator(".xterm-rows")).to_contain_text(text, timeout=timeout)


def test_a_person_works_in_the_browser(site: Site) -> None:
    person = site.gate.stage.person("alice", password=True)
    page = site.terminal(person, viewport={"width": 1000, "height": 700})
    page.evaluate("text => terminal.input(text)", "echo $((6*7))-'ä€😀'\r")  # the driver's keyboard has no such letters
    shows(page, "42-ä€😀")
    page.keyboard.type(
        r"printf '\033[38;2;10;200;30mgreen\033[0m \033[1mbold\033[0m <script>alert(1)</script>\n'" + "\n"
    )
    shows(page, "green bold <script>")
    colour = page.locator(".xterm-rows span", has_text="green").last.evaluate("e => getComputedStyle(e).color")
    assert colour == "rgb(10, 200, 30)", "a style that the content security policy did not stop"
    # Another size of the window is another size of the terminal.
    before = page.evaluate("terminal.cols")
    page.set_viewport_size({"width": 600, "height": 700})
    until(lambda: page.evaluate("terminal.cols") < before, 10)
    page.keyboard.type("stty size; echo do''ne\n")
    shows(page, "done")
    shows(page, f"{page.evaluate('terminal.rows')} {page.evaluate('terminal.cols')}")
    # Tab is the shell's; Shift+F6 is the way out.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === terminal.textarea")
    page.keyboard.press("Shift+F6")
    expect(page.get_by_role("button", name="For a screen reader")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".xterm-accessibility")).to_contain_text("done")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run({ exclude: ['.xterm'] }).then((r) => r.violations.map((v) => v.id + ' ' + v.nodes[0].html))"
    )
    assert found == []
    # The end, and another beginning.
    page.evaluate("terminal.focus()")
    page.keyboard.type("exit\n")
    expect(page.locator("#terminal-state")).to_have_text("The session has ended.")
    page.get_by_role("button", name="Connect again").press("Enter")
    expect(page.locator("#terminal-state")).to_have_text("Connected.")
    page.keyboard.type("echo aga''in\n")
    shows(page, "again")
    site.gate.sign_in("alice", PASSWORD)  # another browser is another session
    page.context.request.get(f"{site.gate.url}/me")
    for sign_in in site.gate.stage.store.sign_ins("alice"):
        site.gate.stage.store.end_sign_in("alice", sign_in.id, actor="alice")
    expect(page.locator("#terminal-state")).to_contain_text("You are signed out.")
    assert site.said == []


def test_floods_of_output_and_input_freeze_nothing(site: Site) -> None:
    page = site.terminal(site.gate.stage.person("bob", password=True))
    page.evaluate(WATCH)
    page.keyboard.type("seq 1000000; echo do''ne\n")
    shows(page, "done", 60_000)
    shows(page, "1000000")
    assert page.evaluate("longest") < 1500
    page.keyboard.type("stty -echo; wc -c\n")
    lines = "x" * 99 + "\n"
    page.evaluate("text => { longest = 0; terminal.paste(text); }", lines * 10_000)
    page.keyboard.press("Control+d")
    shows(page, "1000000", 60_000)
    assert page.evaluate("longest") < 1500
    assert site.said == []


def test_it_says_when_its_scripts_are_not_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webadmin.terminal.views.SCRIPTS", ("vendor/absent.js",))
    person = site.gate.stage.person("carol", password=True)
    assert person.workspace
    page = site.gate.sign_in("carol", PASSWORD).get(f"/me/workspaces/{person.workspace.id}/terminal").text
    assert "make install" in page
    assert "ssh -p" in page
    assert "vendor/" not in page
