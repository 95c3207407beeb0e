"""Every word that people read on a page goes through gettext: shown in a language whose every word is marked."""

from __future__ import annotations

import gettext
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support import messages, pages
from tests.support.furnished import furnish
from tests.support.sample import fill
from tests.support.web import CHEAP_HASH, Browser, Web, open_web
from webadmin import i18n
from webadmin.words import WORDS
from workspaces import model
from workspaces.store import Store

OPEN, CLOSE = "⟦", "⟧"
READ_ALOUD = ("title", "aria-label", "placeholder", "alt", "data-label", "data-done")
# Their text is data, wherever it comes from: commands, names, what people and programs wrote.
DATA = ("code", "pre", "bdi", "textarea", "script", "style")
UNITS = {"spdx", "cyclonedx", "bytes", "kib", "mib", "gib", "tib", "utc", "ssh"}
EXAMPLES = {"ssh-ed25519 AAAA…", "ssh-ed25519 AAAA… you@laptop", "python /root/predict.py"}
EXAMPLES |= {"name,challenge,workspace,email,key"}
ENUMS = {
    str(member).lower()
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, StrEnum)
    for member in kind
}


class Marked(gettext.NullTranslations):
    """Each word between marks."""

    def gettext(self, message: str) -> str:
        return f"{OPEN}{message}{CLOSE}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"{OPEN}{msgid1 if n == 1 else msgid2}{CLOSE}"


class Unmarked(HTMLParser):
    """Collects text outside of marks; an element that is data, or in one, is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[tuple[str, bool]] = []
        self.depth = 0
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in READ_ALOUD:
            self.found.append(re.sub(f"{OPEN}.*{CLOSE}", "", given.get(name) or "", flags=re.DOTALL))
        if tag not in pages.VOID:
            data = tag in DATA or given.get("dir") == "auto" or "data" in (given.get("class") or "").split()
            self.stack.append((tag, data))

    def handle_endtag(self, tag: str) -> None:
        while self.stack and self.stack.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        outside = ""
        for char in data:
            self.depth += (char == OPEN) - (char == CLOSE)
            outside += char if not self.depth and char != CLOSE else " "
        if not any(is_data for _, is_data in self.stack):
            self.found.append(outside)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with closing(Store.open(tmp_path / "workspaces.db")) as store:
        fill(store, CHEAP_HASH)
        furnish(store)
    web = open_web(tmp_path)
    yield web
    web.store.close()


def stored_words(web: Web) -> set[str]:
    """The words in the database: names and what people wrote. Those of states and kinds are to be translated."""
    words: set[str] = set()
    with closing(sqlite3.connect(web.settings.database)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                words.update(word for cell in row if isinstance(cell, str) for word in split(cell))
    return words - ENUMS


def split(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", text.lower()))


def test_every_word_of_every_page_can_be_translated(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = pages.people(web.store)
    urls = pages.addresses(web.app, web.store)
    seen = {person: pages.seen_by(pages.visitor(web.app, person), urls) for person in everybody}
    known = stored_words(web) | UNITS
    monkeypatch.setattr(i18n, "_catalogue", Marked)
    bare: dict[str, set[str]] = {}
    for person in seen:
        browser = Browser(web.app)
        if person:
            browser.sign_in(person)
        for url in seen[person]:
            parser = Unmarked()
            parser.feed(browser.get(url).text)
            for text in parser.found:
                if text.strip() not in EXAMPLES and (unknown := split(text) - known):
                    bare.setdefault(url, set()).update(unknown)
    assert bare == {}, bare


def test_what_is_marked_is_what_translators_get() -> None:
    words = {str(m.id[0] if isinstance(m.id, tuple) else m.id) for m in messages.extract() if m.id}
    assert {"Skip to the content", "Too many tries.", "Copied", "May", "committing", "%(num)s day ago"} <= words
    assert {"with exactly this name", "see what you may see, and change nothing"} <= words
    assert not [word for word in words if "{{" in word or "{%" in word]


def test_what_the_store_says_in_a_word_can_be_translated() -> None:
    assert set() == ENUMS - WORDS


def test_a_catalogue_is_merged_and_compiled(tmp_path: Path) -> None:
    place = tmp_path / "de" / "LC_MESSAGES"
    place.mkdir(parents=True)
    (place / "webadmin.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "Sign in"\nmsgstr "Anmelden"\n'
    )
    assert [path.name for path in messages.write(tmp_path)] == ["webadmin.pot", "webadmin.po", "webadmin.mo"]
    with (place / "webadmin.mo").open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("Sign in") == "Anmelden"
    assert 'msgid "Sign out"' in (place / "webadmin.po").read_text()
