"""How a version is to be run, from what a person typed: pure.

    python /root/predict.py                    ─► ["/bin/sh", "-c", "python /root/predict.py"]
    ["python", "/root/predict.py"] (JSON)      ─► as it is

It is what a Dockerfile's CMD and ENTRYPOINT are. An administrator reads it before deciding, so it must be what it looks
like: no control or format characters, which could hide or turn around a part of it.
"""

from __future__ import annotations

import json

from workspaces.errors import InvalidInput
from workspaces.model import Command
from workspaces.names import printable

TEXT_MAX = 2000  # characters, of all arguments together
ARGUMENTS_MAX = 64
SHELL = ("/bin/sh", "-c")


def named_command(entrypoint: str | None, cmd: str | None) -> Command | None:
    """What is named of the two; None when nothing is. Raises InvalidInput."""
    command = Command(_arguments(entrypoint, "entry point"), _arguments(cmd, "command"))
    return None if command == Command() else command


def shown_command(command: Command) -> str:
    """For people to read: `ENTRYPOINT ["…"] CMD ["…"]`, JSON as a Dockerfile has it."""
    parts = {"ENTRYPOINT": command.entrypoint, "CMD": command.cmd}
    return " ".join(f"{name} {json.dumps(list(words), ensure_ascii=False)}" for name, words in parts.items() if words)


def _arguments(text: str | None, what: str) -> tuple[str, ...]:
    if text is None or not text.strip():
        return ()
    text = text.strip()
    if len(text) > TEXT_MAX:
        raise InvalidInput(f"The {what} has {len(text)} characters; {TEXT_MAX} are allowed.")
    words: tuple[str, ...] = (*SHELL, text)
    if text.startswith("["):
        try:
            words = tuple(json.loads(text))
        except (ValueError, RecursionError):
            words = ()
        if not words or not all(isinstance(word, str) for word in words):
            raise InvalidInput(
                f"The {what} {printable(text, 60)!r} begins as a list, and is none.",
                'Write ["program", "argument"], or a line for the shell.',
            )
    if len(words) > ARGUMENTS_MAX:
        raise InvalidInput(f"The {what} has {len(words)} arguments; {ARGUMENTS_MAX} are allowed.")
    if not words[0] or not all(word.isprintable() for word in words):
        raise InvalidInput(
            f"The {what} has characters that cannot be shown, or names no program.",
            "Put what needs them in a script in the workspace, and name that.",
        )
    return words
