"""The words of the pages for translators: `make messages`, or `python -m tests.support.messages`.

    webadmin/*.py, templates ─► webadmin/locale/webadmin.pot ─► each locale/LANG/LC_MESSAGES/webadmin.po ─► its .mo

The template (.pot) is made anew whenever it is wanted and is not in the repository; catalogues (.po, .mo) are. A new
language: `pybabel init -i webadmin/locale/webadmin.pot -d webadmin/locale -D webadmin -l LANG`, then this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from webadmin.i18n import DOMAIN, LOCALE
from workspaces.queries import FIELDS
from workspaces.scopes import SCOPES

WEBADMIN = LOCALE.parent
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
OPTIONS = {"templates/**.html": {"newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}}


def extract(webadmin: Path = WEBADMIN) -> Catalog:
    """Every word of the pages."""
    found = Catalog(project="container-workspaces", charset="utf-8", fuzzy=False)
    for file, line, message, comments, context in extract_from_dir(
        webadmin,
        METHODS,
        OPTIONS,
        keywords=KEYWORDS,
        comment_tags=("translators:",),
        directory_filter=lambda path: Path(path).name not in ("assets", "static", "locale"),
    ):
        found.add(message, None, [(f"webadmin/{file}", line)], auto_comments=comments, context=context)
    for where, texts in _elsewhere().items():
        for text in texts:
            found.add(text, None, [(where, 0)])
    return found


def _elsewhere() -> dict[str, list[str]]:
    """Sentences that pages show and that a layer below has, which marks nothing: by the file that they are in."""
    return {
        "workspaces/queries.py": [known.help for fields in FIELDS.values() for known in fields.values()],
        "workspaces/scopes.py": [meaning.text for meaning in SCOPES.values()],
    }


def write(place: Path = LOCALE) -> list[Path]:
    """Write the template, merge it into each catalogue there is, and compile these; gives what was written."""
    place.mkdir(exist_ok=True)
    words = extract()
    written = [place / f"{DOMAIN}.pot"]
    with written[0].open("wb") as file:
        write_po(file, words, width=0, sort_by_file=True)
    for catalogue in sorted(place.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        with catalogue.open("rb") as file:
            known = read_po(file, locale=catalogue.parent.parent.name, domain=DOMAIN)
        known.update(words)
        with catalogue.open("wb") as file:
            write_po(file, known, width=0, sort_by_file=True)
        with catalogue.with_suffix(".mo").open("wb") as file:
            write_mo(file, known)
        written += [catalogue, catalogue.with_suffix(".mo")]
    return written


def main() -> int:
    for path in write():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
