"""How a version is to be run, as people type it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.commands import ARGUMENTS_MAX, TEXT_MAX, named_command, shown_command
from workspaces.errors import InvalidInput
from workspaces.model import Command


def test_a_line_is_for_the_shell_and_a_list_is_as_it_is() -> None:
    assert named_command(None, " python /root/predict.py ") == Command((), ("/bin/sh", "-c", "python /root/predict.py"))
    assert named_command('["/run me"]', '["-x", "é"]') == Command(("/run me",), ("-x", "é"))
    assert named_command(None, None) is None
    assert named_command("", "  ") is None


def test_it_is_shown_as_a_dockerfile_has_it() -> None:
    assert shown_command(Command(("/a b",), ("é",))) == 'ENTRYPOINT ["/a b"] CMD ["é"]'
    assert shown_command(Command((), ("/bin/sh", "-c", "x"))) == 'CMD ["/bin/sh", "-c", "x"]'


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "[1]",
        '["a", null]',
        '[["a"]]',
        '[""]',
        "a\nb",
        "a\x1b[2J",
        "rm -rf / \u202e",  # what follows is shown the other way round
        "\udcff",
        "x" * (TEXT_MAX + 1),
        "[" * TEXT_MAX,
        str(["a"] * (ARGUMENTS_MAX + 1)).replace("'", '"'),
    ],
)
def test_what_cannot_be_shown_or_run_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        named_command(None, text)


@given(st.text(max_size=50))
def test_any_text_is_taken_as_it_is_or_refused(text: str) -> None:
    try:
        command = named_command(None, text)
    except InvalidInput:
        return
    assert command is None or all(word.isprintable() for word in command.cmd)
    assert (command is None) is (not text.strip())
