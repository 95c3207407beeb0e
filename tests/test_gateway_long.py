"""What takes minutes: gigabytes through the gateway. `make test` tries the same with less."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.clients import (
    Laptop,
    alice,
    base_image,
    digest,
    guest_dir,
    laptop,
    nothing_left,
    private_engine,
    quiet,
    random_file,
    stage,
)
from tests.support.gatewayprocess import ProcessStage

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.usefixtures("nothing_left")]

GIB = 1 << 30
GROWTH = 64 << 20  # bytes of memory that carrying any amount may take


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = random_file(tmp_path_factory.mktemp("large") / "large", GIB)
    return path, digest(path)


@pytest.mark.parametrize("options", [(), ("-o", "RekeyLimit=1M")], ids=["", "rekey each megabyte"])
def test_a_gibibyte_through_cat(
    stage: ProcessStage, laptop: Laptop, large: tuple[Path, str], options: tuple[str, ...]
) -> None:
    path, expected = large
    before = stage.most_memory()
    seen = hashlib.sha256()
    with (
        path.open("rb") as file,
        subprocess.Popen(laptop.ssh(*options, "gate", "cat"), stdin=file, stdout=subprocess.PIPE) as both,
    ):
        assert both.stdout
        while block := both.stdout.read(1 << 20):
            seen.update(block)
    assert (both.returncode, seen.hexdigest()) == (0, expected)
    assert stage.most_memory() - before < GROWTH


def test_a_gibibyte_by_sftp_while_others_work(stage: ProcessStage, laptop: Laptop, large: tuple[Path, str]) -> None:
    path, expected = large
    batch = f"put {path} large\nget large {laptop.home}/back\n".encode()
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(
            laptop.run, "sftp", "-q", "-F", str(laptop.config), "-b", "-", "gate", stdin=batch, seconds=600
        )
        while not copying.done():
            assert laptop.run(*laptop.ssh("gate", "echo quick")).stdout == b"quick\n"
        copying.result()
    assert digest(laptop.home / "back") == digest(laptop.there("large")) == expected


def test_a_thousand_sessions_of_every_kind_leave_nothing(laptop: Laptop) -> None:
    """Commands, terminals, files, clients that are killed: one after another and eight at a time."""
    payload = os.urandom(200_000)

    def one(number: int) -> None:
        kind = random.Random(number).randrange(5)
        if kind == 0:
            assert laptop.run(*laptop.ssh("gate", "cat"), stdin=payload).stdout == payload
        elif kind == 1:
            laptop.run(*laptop.ssh("-tt", "gate"), stdin=b"exit 3\n", status=3)
        elif kind == 2:
            name = f"file-{number}"
            batch = f"put {laptop.config} {name}\nrm {name}\n".encode()
            laptop.run("sftp", "-q", "-F", str(laptop.config), "-b", "-", "gate", stdin=batch)
        else:
            with laptop.popen(*laptop.ssh("gate", "yes" if kind == 3 else "echo up; exec sleep 1000")) as client:
                assert client.stdout
                client.stdout.read(1)
                client.kill()
                client.communicate()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1000)))
