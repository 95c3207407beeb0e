"""The command reference, generated from the code: `python -m tests.support.reference` writes docs/cli.md."""

from __future__ import annotations

from pathlib import Path

import click

from workspaces.cli.common import cli

TARGET = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# Command reference

Generated from the program's own help by `python -m tests.support.reference`; a test fails when it is out of date.

Exit status: 0 done, 1 refused or failed, 2 wrong use. A password is never an argument: a password file holds one
line, and `-` is standard input. Every `list` and `show` takes `--json`.
"""


def commands(group: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command below `group` with its words, groups themselves included, in the order of the help."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group, info_name=path[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def render() -> str:
    """The whole document."""
    parts = [HEAD]
    for path, command in [(("workspaces",), cli), *commands(cli, ("workspaces",))]:
        context = click.Context(
            command,
            info_name=" ".join(path),
            terminal_width=100,
            max_content_width=100,
            help_option_names=["-h", "--help"],
        )
        parts.append(f"## {' '.join(path)}\n\n```\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
