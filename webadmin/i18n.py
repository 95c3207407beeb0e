"""The words of the pages in the reader's language: gettext catalogues in `locale/`, else the English of the source.

templates: {{ _("Signed in as %(name)s", name=name) }}, {% trans %}…{% endtrans %}     Python: _("…", name=name)
    ─► catalogue of the first language of the browser that there is one for ─► else as written
"""

from __future__ import annotations

import gettext
from functools import cache
from pathlib import Path

from flask import Flask, g, has_request_context, request
from markupsafe import Markup

DOMAIN = "webadmin"
LOCALE = Path(__file__).parent / "locale"


def install(app: Flask) -> None:
    """Let templates say `_`, `ngettext` and `trans`."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    # Jinja's own functions do the same, but are given the context, which is copied for each call in a loop: a third of
    # the time that a list took.
    app.jinja_env.newstyle_gettext = True  # type: ignore[attr-defined]
    app.jinja_env.globals.update(_=_shown, gettext=_shown, ngettext=_shown_number, language=language)


def _shown(text: str, /, **values: object) -> Markup:
    """For a template: markup, in which values are escaped. A percent sign is `%%`, even without values."""
    said = Markup(_catalogue().gettext(text))  # noqa: S704 -- words of the source, or of a translator
    return said % values if values or "%" in said else said


def _shown_number(one: str, many: str, number: int, /, **values: object) -> Markup:
    """The form for `number`, which is %(num)s in both."""
    return Markup(_catalogue().ngettext(one, many, number)) % {"num": number, **values}  # noqa: S704


def _(text: str, **values: object) -> str:
    """`text` in the reader's language, with `values` for its %(name)s."""
    said = _catalogue().gettext(text)
    return said % values if values else said


def N_(text: str) -> str:
    """`text` as it is: marked here, translated where it is shown."""
    return text


def ngettext(one: str, many: str, number: int, **values: object) -> str:
    """The form for `number`, which is %(num)s in both."""
    return _catalogue().ngettext(one, many, number) % {"num": number, **values}


def languages() -> tuple[str, ...]:
    """Those with a catalogue, and English."""
    return _found(LOCALE)


def language() -> str:
    """The reader's, as a language tag."""
    if not has_request_context():
        return "en"
    if "language" not in g:
        g.language = request.accept_languages.best_match(languages()) or "en"
    return str(g.language)


def _catalogue() -> gettext.NullTranslations:
    if not has_request_context():
        return _read(LOCALE, "en")
    found: gettext.NullTranslations | None = g.get("catalogue")
    if found is None:  # kept: a page asks a thousand times
        found = g.catalogue = _read(LOCALE, language())
    return found


@cache
def _read(place: Path, tag: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, place, [tag.replace("-", "_")], fallback=True)


@cache
def _found(place: Path) -> tuple[str, ...]:
    return (
        "en",
        *sorted(path.parent.parent.name.replace("_", "-") for path in place.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")),
    )
