"""The rules for names, messages and what is printed of hostile text."""

from __future__ import annotations

import pytest

from workspaces.errors import InvalidInput
from workspaces.names import check_image, check_message, check_name, image_name, printable, span, split_login


@pytest.mark.parametrize("name", ["a", "alice", "team-7", "a1-b2-c3", "x" * 32])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a.b", "a/b", "../a", "a\0", "a\n", "älice", "a b", "x" * 33, "а"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a user"):
        check_name(name, "user")


@pytest.mark.parametrize(
    "reference", ["debian:12", "als/alice:v1", "host:5000/a/b:Tag_1.2", "a", "gcr.example/a-b/c__d"]
)
def test_good_images(reference: str) -> None:
    assert check_image(reference) == reference


@pytest.mark.parametrize("reference", ["", "A", "a:", "a b", "a@sha256:00", "/a", "a//b", "a:-x", "-a", "a" * 300])
def test_bad_images(reference: str) -> None:
    with pytest.raises(InvalidInput):
        check_image(reference)


def test_messages_are_trimmed_and_bounded() -> None:
    assert check_message("  first\nsubmission\t\n") == "first\nsubmission"
    for bad in ("", " \n", "x" * 1001, "a\x1b[2J", "a\0", "\udcff", "a\x9b"):
        with pytest.raises(InvalidInput):
            check_message(bad)


def test_printable_leaves_nothing_that_a_terminal_obeys() -> None:
    assert printable("a\x1b[31m\n\u202eb\u2028 ok") == "a\\x1b[31m\\n\\u202eb\\u2028 ok"
    assert printable("x" * 300, 10) == "x" * 10 + "…"


def test_logins_are_split_at_the_first_plus() -> None:
    assert split_login("alice") == ("alice", None)
    assert split_login("alice+als/team+x") == ("alice", "als/team+x")
    assert split_login("+") == ("", "")


def test_image_name() -> None:
    assert image_name("als", "alice", 3) == "als/alice:v3"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (-5, "0 s"), (0.6, "1 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (3600, "1 h"),
        (3601, "1 h"), (7260, "2 h 1 min"), (86400, "1 day"), (90000, "1 day 1 h"), (172800 + 59, "2 days"),
    ],
)  # fmt: skip
def test_lengths_of_time(seconds: float, said: str) -> None:
    assert span(seconds) == said
