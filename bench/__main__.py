"""`python -m bench`: starts a host of its own, measures in turns, prints ratios, removes all again."""

from __future__ import annotations

import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from workspaces.demo import story
from workspaces.demo.stage import MARK, Stage, tear_down
from workspaces.engine.base import LABEL_WORKSPACE
from workspaces.engine.private import PrivateEngine
from workspaces.settings import DOCKER_SOCKET

ROUNDS = 40
PINNED = ("-o", "KexAlgorithms=curve25519-sha256", "-c", "aes128-gcm@openssh.com")


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of one command in seconds; CalledProcessError when it fails."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - begun


def compare(commands: dict[str, list[str]], environment: dict[str, str], rounds: int = ROUNDS) -> dict[str, float]:
    """Run each command once in every round, so that a slow moment hits all; returns medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        timed(command, environment)
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(timed(command, environment))
    return {name: statistics.median(values) for name, values in times.items()}


def warm_login(stage: Stage) -> None:
    """`ssh gate true` on a warm workspace against `docker exec C true` on the host."""
    with stage.engine() as engine:
        container = engine.containers({LABEL_WORKSPACE: "als/alice"})[0].name
    alice = stage.people["alice"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(stage.home)}
    medians = compare(
        {
            "docker exec C true": ["docker", "-H", engine_host(stage), "exec", container, "true"],
            "ssh gate true": [*alice.line(), "true"],
            "ssh gate true, exchange pinned": [*alice.line(*PINNED), "true"],
        },
        environment,
    )
    base = medians["docker exec C true"]
    print(f"\nwarm login, median of {ROUNDS} rounds in turns")
    for name, seconds in medians.items():
        print(f"  {name:34}{seconds * 1000:7.1f} ms   {seconds / base:5.2f} ×")


def engine_host(stage: Stage) -> str:
    """The address of the engine that the stage uses: its private one, or the host's own."""
    private = PrivateEngine(stage.home / "engine")
    return private.host if private.exists() else DOCKER_SOCKET


def main() -> int:
    """Set the stage as the demonstration does, measure, tidy up."""
    home = Path(tempfile.mkdtemp(prefix="workspaces-bench-", dir="/var/tmp"))
    (home / MARK).write_text("{}", encoding="ascii")
    stage = Stage(home, click.echo, lambda: secrets.token_urlsafe(12))
    try:
        for name, step in story.STEPS[:6]:
            print(name, flush=True)
            step(stage)
        warm_login(stage)
    finally:
        tear_down(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
