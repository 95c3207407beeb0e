"""What a command loads: the libraries of parts that it does not use would make each one slower to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"asyncssh", "boto3", "docker", "flask", "isal", "kingfisher_sdk", "pyrage", "requests", "securesystemslib"}
PARTS = {f"workspaces.{name}" for name in ("archive", "engine", "guest", "jobs", "provenance", "registry", "snapshots")}


def loaded(home: Path, *arguments: str) -> set[str]:
    """Which of all these modules a process has that ran this command."""
    program = f"""
import sys
from workspaces.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted({HEAVY | PARTS!r} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, "--home", str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("state") / "home"
    command = [sys.executable, "-m", "workspaces.cli", "--home", str(made), "init"]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    return made


@pytest.mark.parametrize(
    "command",
    [("--version",), ("user", "list"), ("key", "list", "--help"), ("challenge", "list"), ("list",), ("job", "list")],
    ids=" ".join,
)
def test_a_command_about_the_database_loads_nothing_of_engine_and_archive(home: Path, command: tuple[str, ...]) -> None:
    assert loaded(home, *command) == set()


def test_a_command_about_the_archive_loads_no_engine(home: Path) -> None:
    found = loaded(home, "archive", "list")
    assert "workspaces.archive" in found
    assert not found & {"asyncssh", "boto3", "docker", "flask", "securesystemslib", "workspaces.jobs"}


def test_help_loads_every_command_and_no_library_of_the_engine_or_the_gateway(home: Path) -> None:
    assert not loaded(home, "--help") & {"asyncssh", "boto3", "docker", "flask", "securesystemslib"}
