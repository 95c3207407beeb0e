"""Lists of people on the page: shown first, then done; every problem with its line; the export."""

from __future__ import annotations

import io
import re

import pytest

from tests.support.web import Web, web_fixture
from webadmin.admin import rosters
from workspaces import roster

__all__ = ["web_fixture"]


def test_a_file_is_shown_and_done_when_it_is_sent_again(web: Web) -> None:
    chief = web.browser("chief")
    text = "name;email\ndora;dora@example.org\nalice;\n"
    shown = chief.post("/admin/users/import", {"file": (io.BytesIO(text.encode()), "people.csv"), "challenge": "als"})
    assert shown.status_code == 200
    assert "1 new account, 1 new workspace," in shown.text
    assert "dora@example.org" in shown.text
    assert web.store.find_user("dora") is None
    form = {"text": text, "challenge": "als", "do": "yes", "seen": seen(shown.text)}
    web.store.add_user("dora", actor="chief")  # somebody else of that name, whom the page did not show
    changed = chief.post("/admin/users/import", form)
    assert changed.status_code == 409
    assert "By now the list would do something else" in changed.text
    assert web.store.user("dora").email is None
    assert chief.post("/admin/users/import", {**form, "seen": ""}).status_code == 409
    done = chief.post("/admin/users/import", {**form, "seen": seen(changed.text)})
    assert done.status_code == 302
    assert web.store.workspace("als/dora").members == ("dora",)
    assert "als/dora" in chief.get("/admin/users").text


def seen(page: str) -> str:
    [mark] = re.findall(r'name="seen" value="([0-9a-f]+)"', page)
    return str(mark)


def test_problems_name_their_lines_and_nothing_is_done(web: Web) -> None:
    chief = web.browser("chief")
    answer = chief.post("/admin/users/import", {"text": "name\ndora\n<script>x</script>\n", "do": "yes"})
    assert answer.status_code == 400
    assert "Line 3, name:" in answer.text
    assert "<script>x" not in answer.text
    assert web.store.find_user("dora") is None


@pytest.mark.parametrize("text", ["", "nobody", "name\n" + "\x00"])
def test_what_is_no_list_is_said(web: Web, text: str) -> None:
    answer = web.browser("chief").post("/admin/users/import", {"text": text})
    assert answer.status_code == 400


def test_a_list_as_large_as_allowed_is_taken_and_no_larger(web: Web) -> None:
    chief = web.browser("chief")
    line = b"name\n" + b"# " * 10
    large = line.ljust(roster.MAX_BYTES, b"\n")
    taken = chief.post("/admin/users/import", {"file": (io.BytesIO(large), "a.csv")})
    assert taken.status_code in (200, 400)
    more = large.ljust(rosters.FORM_MAX, b"\n")
    assert chief.post("/admin/users/import", {"file": (io.BytesIO(more), "a.csv")}).status_code == 413
    assert chief.post("/admin/users", {"name": "x" * (100 << 10)}).status_code == 413


def test_the_export_is_csv(web: Web) -> None:
    answer = web.browser("chief").get("/admin/users/export")
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "alice,als,alice,," in answer.text
