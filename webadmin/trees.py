"""Trees of changed paths as HTML, made here and not by macros: there may be 1,500 rows on a page.

Names come from containers: each is written out where it could disguise something, and escaped.
"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup, escape

from webadmin.display import count, shown, sign_of
from webadmin.i18n import _, ngettext
from workspaces.model import ChangeReport
from workspaces.names import amount
from workspaces.snapshots.tree import Row, fold

ROWS, EACH, OPEN = 1500, 40, 6  # of the tree, of one directory in it, and how many directories are open at first


def whole(report: ChangeReport | None) -> Row | None:
    """All of a report as one tree, as far as a page has room for it; the first directories are open."""
    return fold(report, rows=ROWS, each=EACH, first=OPEN) if report else None


def branches(top: Row) -> Markup:
    """The list items below `top`, which is what tree.fold gave; directories open without JavaScript."""
    signs: dict[str, str] = {}
    return Markup("".join(_branch(top, signs)))  # noqa: S704 -- every part is escaped where it is put in


def _branch(row: Row, signs: dict[str, str]) -> Iterator[str]:
    for child in row.rows:
        if child.rows:
            yield f"<li>\n<details{' open' if child.first else ''}>\n<summary>{_leaf(child, signs)}</summary>\n<ul>"
            yield from _branch(child, signs)
            yield "</ul>\n</details>\n</li>\n"
        else:
            yield f"<li>{_leaf(child, signs)}</li>\n"
    if row.more and row.rows:
        said = _("… and %(count)s more, %(size)s", count=count(row.more), size=amount(row.more_size))
        yield f'<li class="quiet rest">{escape(said)}</li>\n'


def _leaf(row: Row, signs: dict[str, str]) -> str:
    kind = row.change.kind if row.change else ""
    if kind and kind not in signs:
        signs[kind] = str(sign_of(kind))
    paths = ""
    if row.is_directory:
        said = ngettext("%(n)s path", "%(n)s paths", row.count, n=count(row.count))
        paths = f'<span class="quiet">/ {escape(said)}</span>'
    marks = "".join(f'<span class="badge data">{escape(shown(mark, 120))}</span>' for mark in row.marks)
    size = amount(row.size) if row.is_directory or kind != "removed" else ""
    return (
        f'<span class="row{" " if kind else ""}{escape(kind)}"><span class="sign">{signs.get(kind, "")}</span> '
        f'<span class="path"><bdi>{escape(shown(row.name))}</bdi>{paths} {marks}</span> '
        f'<span class="size">{size}</span></span>'
    )
