"""Words of the pages in another language."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.web import Web, web_fixture
from webadmin import i18n

__all__ = ["web_fixture"]


def test_without_a_catalogue_the_words_are_as_written(web: Web) -> None:
    with web.app.test_request_context(headers={"Accept-Language": "xx, de;q=0.5"}):
        assert i18n.language() == "en"
        assert i18n._("Signed in as %(name)s", name="<b>") == "Signed in as <b>"
        assert i18n._("100 % sure") == "100 % sure"
        assert [i18n.ngettext("%(num)s key", "%(num)s keys", n) for n in (0, 1, 2)] == ["0 keys", "1 key", "2 keys"]


def test_values_in_a_template_are_escaped_and_its_own_markup_is_not(web: Web) -> None:
    said = """{{ _("<b>%(name)s</b> 100 %%", name=name) }}|{{ _("9 %%") }}|
        {% trans name=name %}<i>{{ name }}</i>{% endtrans %}|
        {{ ngettext("%(num)s <i>", "%(num)s <b>", 2) }}|{% for n in (1,) %}{{ _("text") }}, {{ name }}{% endfor %}"""
    with web.app.test_request_context():
        made = web.app.jinja_env.from_string(said).render(name="<&>", text="<")
    shown = ["<b>&lt;&amp;&gt;</b> 100 %", "9 %", "<i>&lt;&amp;&gt;</i>", "2 <b>", "text, &lt;&amp;&gt;"]
    assert [part.strip() for part in made.split("|")] == shown


def test_a_catalogue_is_used_for_those_who_ask_for_its_language(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "de_AT" / "LC_MESSAGES"
    place.mkdir(parents=True)
    (place / "webadmin.mo").write_bytes(
        catalogue({"": "Content-Type: text/plain; charset=UTF-8\n", "Keys": "Schlüssel"})
    )
    monkeypatch.setattr(i18n, "LOCALE", tmp_path)
    for asked, said in (("de-AT,en;q=0.5", "Schlüssel"), ("en", "Keys"), ("", "Keys"), ("\x00;;q=z", "Keys")):
        with web.app.test_request_context(headers={"Accept-Language": asked}):
            assert web.app.jinja_env.from_string("{{ _('Keys') }}{% trans %}Keys{% endtrans %}").render() == said * 2


def catalogue(words: dict[str, str]) -> bytes:
    """A .mo file of these words (gettext's manual, "The Format of GNU MO Files")."""
    pairs = sorted((a.encode(), b.encode()) for a, b in words.items())
    at, tables, text = 28 + 16 * len(pairs), [b"", b""], b""
    for side in (0, 1):
        for pair in pairs:
            tables[side] += len(pair[side]).to_bytes(4, "little") + (at + len(text)).to_bytes(4, "little")
            text += pair[side] + b"\0"
    head = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return b"".join(n.to_bytes(4, "little") for n in head) + tables[0] + tables[1] + text
