"""Contents of changed files: secrets, copies of mounted data, and what is not looked at said so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.worlds import World, memory_world
from workspaces import snapshots
from workspaces.engine.memory import MemoryEngine, MemoryFiles
from workspaces.model import Change, ChangeReport, Finding, JobKind, Mount, PackageChange
from workspaces.snapshots import copies, examining, secrets
from workspaces.snapshots.secrets import Scanner, ScannerFailed
from workspaces.store.rows import changes_json, to_changes

pytestmark = pytest.mark.slow

# Of the form that a token has, and never one: put together here, so that no scanner of this repository finds them.
GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
HUGGING_FACE = "hf_" + "qWmZxKpLvRtYbNcHsDgFjQaEwUiOoPlMnB"
AWS = (
    "aws_access_key_id = AKIA"
    + "Y3FDZQ7W2JXN4BPL"
    + "\naws_secret_access_key = "
    + "u8Zq" * 3
    + "r7Tx2LmK9pWvB4nC6dYhGf1sEjQa\n"
)


def quiet(message: str, fraction: float | None) -> None:
    """Progress that nobody follows."""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for compiled rules: compiling them takes seconds."""
    return tmp_path_factory.mktemp("rules") / "cache"


@pytest.fixture
def world(tmp_path: Path, rules: Path) -> Iterator[World]:
    def scanner(_: Path, seconds: float) -> Scanner:
        return Scanner(rules, seconds)

    with memory_world(tmp_path, scanner) as made:
        yield made


@pytest.fixture
def data(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of the challenge, seen in containers at /data."""
    monkeypatch.setattr(examining, "DATA", copies.Mounts())
    place = tmp_path / "data"
    (place / "sub").mkdir(parents=True)
    world.store.set_challenge(world.slug, mounts=(Mount(str(place), "/data"),), actor="test")
    return place


def look(world: World) -> ChangeReport:
    [*_, open_one] = world.store.snapshots(workspace_id=world.id) or [world.request()]
    snapshots.inspect(world.store, world.engine, world.lifecycle, open_one.id, quiet)
    report = world.store.changes(open_one.id)
    assert report is not None
    return report


def put(world: World, path: str, content: str | bytes) -> Path:
    place = world.rootfs / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


# secrets


def test_secrets_are_found_by_contents_and_never_shown(world: World) -> None:
    key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    put(world, "/root/work/train.py", f"TOKEN = '{GITHUB}'\nother = '{HUGGING_FACE}'\n")
    put(world, "/srv/notes.txt", AWS)
    put(world, "/opt/thing", b"\0\1binary" + key)
    put(world, "/root/clean.py", "import numpy\nurl = 'https://user:auth@example.com:443/x'\n" * 1000)
    report = look(world)
    assert {(f.path, f.what) for f in report.secrets} == {
        ("/root/work/train.py", "github-pat"),
        ("/root/work/train.py", "huggingface-access-token"),
        ("/srv/notes.txt", "aws-access-token"),
        ("/opt/thing", "private-key"),
    }
    [warning] = report.warnings
    assert warning.startswith("Secrets were found in files: ")
    assert "/root/work/train.py (github-pat, huggingface-access-token)" in warning
    assert GITHUB not in str(report)
    assert report.examined_at is not None


def test_what_is_not_searched_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "FILE_MAX", 1000)
    monkeypatch.setattr(examining, "SECRET_BYTES", 1500)
    put(world, "/root/.env.sh", f"export T={GITHUB}")
    put(world, "/root/big.bin", b"x" * 1001)
    for number in range(5):
        put(world, f"/usr/lib/python3/dist-packages/{number}.py", f"{number}" * 900)
    report = look(world)
    assert report.secrets == (Finding("/root/.env.sh", "github-pat"),)  # the likely place came first
    assert report.warnings[1:] == (
        "1 file (1001 B) was not searched for secrets: larger than 1000 B.",
        "4 files (3.5 KiB) were not searched for secrets: the search took too long.",
    )
    assert report.examined_at is None  # so that the commit looks again


def test_a_file_that_cannot_be_opened_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose name is not UTF-8: Docker's list has another name for it."""
    put(world, "/root/a\ufffdb", b"hidden")
    monkeypatch.setattr(MemoryFiles, "open", lambda self, path: None)
    report = look(world)
    assert "1 file (6 B) was not searched for secrets: a name that is not UTF-8" in report.warnings[0]


def test_a_file_that_the_host_cannot_reach_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One below more directories than a process may have open: neither size nor mode are known."""
    listed = ChangeReport(0, "base:1", 1, 0, 0, 6, (Change("added", "/d" * 2000 + "/key"),))
    monkeypatch.setattr(MemoryEngine, "changes", lambda *_: listed)
    world.lifecycle.ensure_running(world.id)
    assert any("1 file (0 B) was not searched for secrets" in warning for warning in look(world).warnings)


def test_files_that_have_not_changed_are_not_read_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "CLOCK", 0.0)
    put(world, "/root/old", f"token {GITHUB}")
    first = look(world)
    scanned: list[bytes] = []

    class Counting(Scanner):
        def scan(self, content: bytes) -> tuple[str, ...] | None:
            scanned.append(content)
            return ()

    monkeypatch.setattr(examining, "Scanner", Counting)
    put(world, "/root/new", "nothing")
    changed = put(world, "/root/again", "one")
    assert [f.path for f in look(world).secrets] == [f.path for f in first.secrets] == ["/root/old"]
    assert sorted(scanned) == [b"nothing", b"one"]
    scanned.clear()
    status = changed.stat()
    changed.write_text("two")
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # which hides nothing
    assert look(world).secrets == first.secrets
    assert scanned == [b"two"]


def test_the_commit_looks_at_what_came_after_the_request(world: World) -> None:
    snapshot = world.request()
    world.lifecycle.ensure_running(world.id)
    snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet)
    put(world, "/root/later", f"token {GITHUB}")
    world.store.approve_snapshot(snapshot.id, actor="chief")
    snapshots.commit(world.store, world.engine, world.lifecycle, snapshot.id, quiet)
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert report.secrets == (Finding("/root/later", "github-pat"),)


def test_a_version_that_nobody_decides_on_is_not_looked_into(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lifecycle.ensure_running(world.id)
    put(world, "/root/.ssh/id_new", f"token {GITHUB}")
    monkeypatch.setattr(examining, "Scanner", None)
    job = world.store.add_job(JobKind.FREEZE, world.id, actor="chief")
    taken = world.store.take_snapshot(job.id, "by itself")
    snapshots.commit(world.store, world.engine, world.lifecycle, taken.id, quiet)
    report = world.store.changes(taken.id)
    assert report is not None
    assert (report.secrets, report.examined_at) == ((), None)
    assert "Contents were not looked into: the program took this version by itself." in report.warnings
    assert any("private ssh keys: /root/.ssh/id_new" in warning for warning in report.warnings), "names still tell"


def test_what_could_not_be_searched_is_not_taken_for_searched_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "CLOCK", 0.0)
    put(world, "/root/x", "y")
    monkeypatch.setattr(Scanner, "scan", lambda self, data: None)
    first, second = look(world), look(world)
    assert "1 file (1 B) was not searched for secrets" in first.warnings[0]
    assert second.warnings == first.warnings


def test_a_scanner_that_does_not_work_is_said(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(secrets, "SCRIPT", tmp_path / "none")
    for number in range(secrets.STARTS + 2):
        put(world, f"/root/{number}", "y")
    warnings = look(world).warnings
    assert warnings[1] == "2 files (2 B) were not searched for secrets: the scanner does not work, it ended 3 times."


def test_without_files_to_look_into_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put(world, "/root/x", "y")
    monkeypatch.setattr(type(world.engine), "written", lambda self, name: None)
    assert look(world).warnings == ("Contents were not looked into: the engine's storage driver shows no files.",)


# the scanner's process


def test_the_scanner_has_given_up_what_it_does_not_need(rules: Path) -> None:
    with Scanner(rules, 60) as scanner:
        assert scanner.scan(f"token {GITHUB} ".encode()) == ("github-pat",)
        assert scanner._process is not None
        process = Path(f"/proc/{scanner._process.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        limits = (process / "limits").read_text()
        assert status["NoNewPrivs"] == "1"
        for limit in ("Max open files", "Max processes", "Max file size"):
            assert (
                next(line for line in limits.splitlines() if line.startswith(limit)).split()[len(limit.split())] == "0"
            )
        if os.geteuid() == 0:
            assert status["Uid"].split() == ["65534"] * 4
            assert int(status["CapEff"], 16) == 0
            assert os.readlink(process / "ns/net") != os.readlink("/proc/self/ns/net")
    assert not process.exists()


@pytest.mark.parametrize(
    "does", ["sys.exit()", "os.kill(os.getpid(), 9)", "print('no json', flush=True)", "print('{}', flush=True)"]
)
def test_a_scanner_that_ends_or_lies_is_replaced_a_few_times(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bad.py"
    script.write_text(f"import os, sys\nsys.stdin.buffer.read(5)\n{does}\nsys.stdin.read()\n")
    monkeypatch.setattr(secrets, "SCRIPT", script)
    with Scanner(tmp_path / "cache", 60) as scanner:
        assert [scanner.scan(b"x" * 100_000) for _ in range(secrets.STARTS)] == [None] * secrets.STARTS
        with pytest.raises(ScannerFailed):
            scanner.scan(b"x")


def test_a_scanner_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "slow.py"
    script.write_text("import time\ntime.sleep(100)\n")
    monkeypatch.setattr(secrets, "SCRIPT", script)
    began = time.monotonic()
    with Scanner(tmp_path / "cache", 0.3) as scanner:
        assert scanner.scan(b"x" * 1_000_000) is None
    assert time.monotonic() - began < 10


def test_a_worker_that_is_killed_leaves_no_scanner(rules: Path) -> None:
    code = (
        "import sys, pathlib, time\nfrom workspaces.snapshots.secrets import Scanner\n"
        "s = Scanner(pathlib.Path(sys.argv[1]), 60)\ns.scan(b'x')\nprint(s._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(rules)], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        process = Path(f"/proc/{int(worker.stdout.readline())}")
        assert process.exists()
        worker.kill()
    deadline = time.monotonic() + 10
    while process.exists() and "\nState:\tZ" not in (process / "status").read_text():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


# copies of mounted data


def test_copies_of_mounted_data_are_named_with_their_source(world: World, data: Path) -> None:
    rows = b"patient,diagnosis\n" * 10_000
    (data / "sub" / "train.csv").write_bytes(rows)
    (data / "small").write_bytes(b"tiny")
    (data / "other").write_bytes(b"z" * len(rows))
    (data / "link").symlink_to("sub/train.csv")
    put(world, "/root/mine.csv", rows)
    put(world, "/root/begins-alike.csv", rows[:-1] + b"!")
    put(world, "/root/tiny", b"tiny")
    put(world, "/root/unlike", os.urandom(len(rows)))
    report = look(world)
    assert report.copies == (Finding("/root/mine.csv", "/data/sub/train.csv"),)
    assert report.warnings == ("Files of the challenge's data were copied: /root/mine.csv (from /data/sub/train.csv).",)


def test_mounted_data_is_read_once_for_all(world: World, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "train.csv").write_bytes(b"a" * 200_000)
    put(world, "/root/one", b"a" * 200_000)
    read: list[int] = []
    digest = copies._digest

    def counting(file: Any, size: int, spend: Any) -> bytes:
        read.append(size)
        return digest(file, size, spend)

    monkeypatch.setattr(copies, "_digest", counting)
    assert look(world).copies
    assert len(read) == 4  # the begin and the whole, of both
    put(world, "/root/two", b"a" * 200_000)
    monkeypatch.setattr(examining, "CLOCK", -60.0)  # nothing counts as seen
    read.clear()
    os.utime(world.rootfs / "root" / "one")
    assert len(look(world).copies) == 2
    assert len(read) <= 4  # of the two only


def test_comparing_ends_with_its_budget(world: World, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "COPY_BYTES", 5000)
    for number in range(3):
        (data / str(number)).write_bytes(f"{number}".encode() * (1000 + number))
        put(world, f"/root/{number}", f"{number}".encode() * (1000 + number))
    report = look(world)
    assert [f.what for f in report.copies] == ["/data/0", "/data/1"]
    assert report.warnings[1] == "1 file (1002 B) was not compared with the challenge's data: it took too long."
    assert report.examined_at is None


def test_a_mount_too_large_to_list_is_said(world: World, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "FILES_MAX", 3)
    for directory in ("a", "b"):
        (data / directory).mkdir()
        for number in range(4):
            (data / directory / str(number)).write_bytes(b"x" * 100)
    put(world, "/root/x", "x")
    assert look(world).warnings == ("Only a part of /data was compared with what changed.",)


# packages


def test_packages_are_counted_against_the_image(world: World) -> None:
    def status(**versions: str) -> str:
        return "".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
            for name, version in {"dpkg": "1.21", **versions}.items()
        )

    put(world, "/var/lib/dpkg/status", status(vim="9", jq="1.6"))
    put(world, "/usr/lib/python3/dist-packages/torch-2.4.0.dist-info/METADATA", "Name: torch")
    report = look(world)
    assert report.packages == (
        PackageChange("pip", "torch", None, "2.4.0"),
        PackageChange("dpkg", "dpkg", None, "1.21"),
        PackageChange("dpkg", "jq", None, "1.6"),
        PackageChange("dpkg", "vim", None, "9"),
    )
    assert report.packages_since == "base:1"


def test_a_database_that_is_not_read_is_said(world: World) -> None:
    put(world, "/var/lib/rpm/rpmdb.sqlite", "no database")
    assert look(world).warnings == ("Packages of rpm changed; /var/lib/rpm/rpmdb.sqlite cannot be read.",)
    (world.rootfs / "var/lib/rpm/rpmdb.sqlite").unlink()
    put(world, "/var/lib/rpm/Packages", "berkeley")
    assert look(world).warnings == ("Packages of rpm changed; its database has a form that is not read.",)


def test_the_rules_are_kept_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Recording(Scanner):
        def __init__(self, cache: Path, seconds: float) -> None:
            seen.append(cache)
            super().__init__(cache, seconds)

    with memory_world(tmp_path, Recording) as world:
        assert world.rootfs
        look(world)
    assert seen == [tmp_path / "cache" / "secret-rules"]


def test_an_old_report_without_these_fields_is_read(world: World) -> None:
    report = look(world)
    assert to_changes(changes_json(report)) == report
    old = (
        '{"at":1.0,"since":"b","added":1,"changed":0,"removed":0,"bytes":3,"entries":[["added","/x",3,33188]],'
        '"warnings":["w"],"not_captured":[]}'
    )
    assert replace(to_changes(old), entries=()) == ChangeReport(1.0, "b", 1, 0, 0, 3, warnings=("w",))
