"""Ansible on a workspace as its users run it: one shared connection, pipelining, each way of moving files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import (
    Laptop,
    alice,
    base_image,
    guest_dir,
    laptop,
    nothing_left,
    private_engine,
    quiet,
    random_file,
    stage,
    tree,
)

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
INSTALL = "apt-get -qq update && apt-get -qq install -y --no-install-recommends python3 python3-apt"
PYTHON: list[dict[str, Any]] = [{"raw": f"test -x /usr/bin/python3 || {{ {INSTALL}; }}"}]
FILES: list[dict[str, Any]] = [
    {"ping": {}},
    {"copy": {"src": "tree", "dest": "/root/", "mode": "preserve"}},
    {"copy": {"content": "line of {{ inventory_hostname }}\n", "dest": "/root/made", "mode": "0600"}},
    {"fetch": {"src": "/root/tree/random", "dest": "back", "flat": True}},
    {"shell": {"cmd": "cat; exit 3", "stdin": "ü in"}, "register": "said", "failed_when": "said.rc != 3"},
    {"assert": {"that": ["said.stdout == 'ü in'"]}},
]
APT: list[dict[str, Any]] = [
    {"apt": {"name": "tree", "state": "present", "install_recommends": False}, "register": "first"},
    {"apt": {"name": "tree", "state": "present"}, "register": "again"},
    {"assert": {"that": ["first is changed", "again is not changed"]}},
]


def play(laptop: Laptop, tasks: list[dict[str, Any]], transfer: str) -> None:
    """Run a playbook of `tasks`; a task that fails ends it. What stays connected afterwards is told to leave."""
    shared = laptop.home / "m"
    shared.mkdir()
    (laptop.home / "inventory").write_text(f"gate ansible_ssh_common_args='-F {laptop.config}'\n")
    (laptop.home / "play.yml").write_text(json.dumps([{"hosts": "gate", "gather_facts": False, "tasks": tasks}]))
    environment = {
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(shared),
        "ANSIBLE_SSH_TRANSFER_METHOD": transfer,
    }
    try:
        laptop.run(str(ANSIBLE), "-i", "inventory", "play.yml", more=environment, seconds=100)
        assert len(list(shared.iterdir())) == 1
    finally:
        for path in shared.iterdir():
            laptop.run(*laptop.ssh("-o", f"ControlPath={path}", "-O", "exit", "gate"))


@pytest.mark.parametrize("transfer", ["sftp", *(pytest.param(way, marks=pytest.mark.long) for way in ("scp", "piped"))])
def test_files_in_each_way(laptop: Laptop, transfer: str) -> None:
    (laptop.home / "tree/deep").mkdir(parents=True)
    random_file(laptop.home / "tree/random", 3_000_000)
    (laptop.home / "tree/deep/program").write_text("#!/bin/sh\necho ran\n")
    (laptop.home / "tree/deep/program").chmod(0o755)
    play(laptop, PYTHON + FILES, transfer)
    assert contents(laptop.there("tree")) == contents(laptop.home / "tree")
    assert laptop.there("made").read_text() == "line of gate\n"
    assert (laptop.home / "back").read_bytes() == (laptop.home / "tree/random").read_bytes()


def contents(path: Path) -> dict[str, tuple[int, str]]:
    return {name: (mode, content) for name, (mode, _, content) in tree(path).items()}


def test_packages(laptop: Laptop) -> None:
    play(laptop, PYTHON + APT, "smart")
    assert (laptop.root / "usr/bin/tree").exists()
