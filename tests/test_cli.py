"""The command line: what it prints, its exit statuses, and that it loses and leaks nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import reference
from tests.support.savetar import FakeImage, layer, named
from tests.support.worlds import NoScanner
from workspaces import engine as engines
from workspaces import guest
from workspaces.cli import common, doctor, host
from workspaces.engine.base import Engine, ImageConfig
from workspaces.engine.memory import MemoryEngine
from workspaces.engine.private import PrivateEngine
from workspaces.errors import EngineUnavailable
from workspaces.snapshots import examining
from workspaces.store import Store

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGzK5E0rCkRY5fM2bYxG8M2xqvIWHfvwTQ0bO4nq0qk alice@laptop"


@dataclass
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MemoryEngine]:
    guest.install(tmp_path / "guest")
    engine = MemoryEngine(tmp_path / "engine", tmp_path / "guest")
    yield engine
    for container in engine.containers({}):
        engine.remove(container.name)
    engine.close()


@pytest.fixture
def run(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command as a person would, on a state directory of the test's own and the in-memory engine."""
    monkeypatch.setenv("WORKSPACES_HOME", str(tmp_path / "home"))
    assert all("open_engine" in vars(module) for module in (doctor, host))  # imported before: these have the real one
    monkeypatch.setattr(engines, "open_engine", lambda *_, **__: engine)
    monkeypatch.setattr(examining, "Scanner", NoScanner)

    def call(*arguments: str, typed: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["workspaces", *arguments])
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        try:
            common.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return call


@pytest.fixture
def ready(run: Run, engine: MemoryEngine, tmp_path: Path) -> Run:
    """A state directory with a base image, the challenge als and the participant alice."""
    import tarfile

    root = tmp_path / "rootfs.tar"
    with tarfile.open(root, "w"):
        pass
    engine.import_rootfs(root, "debian-ds:12", ImageConfig({"Cmd": ["bash"]}))
    assert run("init", "--admin", "chief", "--password-file", "-", typed="correct horse\n").status == 0
    assert run("challenge", "add", "als", "--image", "debian-ds:12", "--memory", "512m").status == 0
    (tmp_path / "alice.pub").write_text(KEY + "\n")
    added = run("user", "add", "alice", "--challenge", "als", "--key", str(tmp_path / "alice.pub"))
    assert (added.status, added.out) == (0, "alice can log in.\n")
    return run


def test_without_a_state_directory(run: Run) -> None:
    ran = run("list")
    assert ran.status == 2
    assert "is not a state directory" in ran.err
    assert "workspaces init --admin NAME" in ran.err


def test_init_makes_secrets_that_nobody_else_reads(run: Run, tmp_path: Path) -> None:
    ran = run("init", "--admin", "chief", "--password-file", "-", typed="correct horse\n")
    assert ran.status == 0
    assert "SHA256:" in ran.out
    home = tmp_path / "home"
    assert home.stat().st_mode & 0o777 == 0o700
    for secret in (home / "workspaces.db", home / "keys" / "ssh_host_ed25519_key"):
        assert secret.stat().st_mode & 0o077 == 0
    assert b"correct horse" not in (home / "workspaces.db").read_bytes()


def test_init_twice_changes_nothing(ready: Run) -> None:
    ran = ready("init", "--admin", "other", "--password-file", "-", typed="correct horse\n")
    assert ran.status == 1
    assert "is a state directory already" in ran.err
    assert "other" not in ready("user", "list").out


@pytest.mark.parametrize("typed", ["", "\n", "two\nlines\n", "short\n"])
def test_init_with_a_bad_password_makes_nothing(run: Run, tmp_path: Path, typed: str) -> None:
    path = tmp_path / "password"
    path.write_text(typed)
    assert run("init", "--admin", "chief", "--password-file", str(path)).status == 1
    assert not (tmp_path / "home" / "workspaces.db").exists()


def test_a_refused_init_can_be_repeated(run: Run) -> None:
    assert run("init", "--admin", "Chief", "--password-file", "-", typed="correct horse\n").status == 1
    assert run("init", "--admin", "chief", "--password-file", "-", typed="correct horse\n").status == 0


def test_lists_print_tables_and_json(ready: Run) -> None:
    assert "als/alice" in ready("list").out
    assert [w["ref"] for w in ready("list", "--json").json] == ["als/alice"]  # type: ignore[attr-defined]
    for command in (("user", "list"), ("challenge", "list"), ("key", "list", "alice"), ("image", "list"),
                    ("snapshot", "list"), ("job", "list"), ("audit", "list"), ("archive", "list")):  # fmt: skip
        ran = ready(*command, "--json")
        assert ran.status == 0, (command, ran.err)
        assert isinstance(ran.json, list)
    assert ready("challenge", "show", "als", "--json").json["limits"]["memory"] == 512 << 20  # type: ignore[index]
    assert ready("show", "alice", "--json").json["members"] == ["alice"]  # type: ignore[index]


def test_unknown_things_are_named_and_end_with_1(ready: Run) -> None:
    for command in (("show", "nobody"), ("challenge", "show", "nope"), ("user", "passwd", "nobody"),
                    ("snapshot", "show", "99"), ("job", "show", "99"), ("key", "list", "nobody")):  # fmt: skip
        ran = ready(*command)
        assert ran.status == 1, command
        assert ran.err.startswith("workspaces: "), command
        assert "Traceback" not in ran.err


def test_wrong_use_ends_with_2(ready: Run) -> None:
    for command in (("nonsense",), ("show",), ("user", "add", "carol"), ("challenge", "set", "als")):
        assert ready(*command).status == 2, command


@pytest.mark.parametrize("name", ["../x", "UPPER", "a b", "é", "x" * 40, "a--b"])
def test_hostile_names_are_refused(ready: Run, name: str) -> None:
    ran = ready("user", "add", name, "--password-file", "-", typed="long enough\n")
    assert ran.status == 1
    assert "cannot be a user" in ran.err


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        ("local,agent", ["agent", "local"]),
        ("none", []),
        ("Local, remote,agent,x11", ["agent", "local", "remote", "x11"]),
    ],
)
def test_what_a_challenge_forwards(ready: Run, said: str, kinds: list[str]) -> None:
    assert ready("challenge", "show", "als").out.splitlines()[2] == "forwarding agent, local, remote, x11"
    assert ready("challenge", "set", "als", "--forwarding", said).status == 0
    assert ready("challenge", "show", "als", "--json").json["forwarding"] == kinds  # type: ignore[index]
    assert ready("challenge", "list", "--json").json[0]["forwarding"] == kinds  # type: ignore[index]
    assert ready("challenge", "show", "als").out.splitlines()[2] == f"forwarding {', '.join(kinds) or 'none'}"
    assert ready("challenge", "add", "two", "--image", "debian-ds:12", "--forwarding", said).status == 0
    assert ready("challenge", "show", "two", "--json").json["forwarding"] == kinds  # type: ignore[index]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--memory", "lots"),
        ("--memory", "9" * 400),
        ("--mount", "/tmp://dev/x"),
        ("--mount", "/tmp:/./proc"),
        ("--mount", "relative:/data"),
        ("--mount", "/nonexistent-directory:/data"),
        ("--mount", "/tmp:/dev/x"),
        ("--closes", "tomorrow"),
        ("--forwarding", "local,everything"),
        ("--forwarding", "none,local"),
        ("--forwarding", ","),
    ],
)
def test_bad_options_of_a_challenge(ready: Run, arguments: tuple[str, str]) -> None:
    ran = ready("challenge", "add", "two", "--image", "debian-ds:12", *arguments)
    assert ran.status == 1
    assert "two" not in ready("challenge", "list").out


def test_a_private_key_is_refused(ready: Run, tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n")
    ran = ready("key", "add", "alice", str(path))
    assert ran.status == 1
    assert "private" in ran.err.lower()


def test_what_is_not_a_text_is_not_a_key(ready: Run) -> None:
    ran = ready("key", "add", "alice", "/bin/ls")
    assert ran.status == 1
    assert "is not a public key" in ran.err


def test_one_key_belongs_to_one_user(ready: Run, tmp_path: Path) -> None:
    ran = ready("user", "add", "mallory", "--challenge", "als", "--key", str(tmp_path / "alice.pub"))
    assert ran.status == 1
    assert "mallory" not in ready("user", "list").out
    assert "mallory" not in ready("list").out


def test_the_life_of_a_version(ready: Run, engine: MemoryEngine, tmp_path: Path) -> None:
    """Start, request, approve with --wait (no worker runs: the command does the work), export, restore."""
    assert ready("start", "alice").out == "als/alice runs.\n"
    assert ready("snapshot", "request", "alice", "-m", "first").status == 0
    again = ready("snapshot", "request", "alice", "-m", "second")
    assert again.status == 1
    ran = ready("snapshot", "approve", "1", "--wait")
    assert ran.status == 0, ran.err
    assert "als/alice:v1 is archived" in ran.out
    assert ready("snapshot", "approve", "1").status == 1
    assert ready("archive", "verify").status == 0
    target = tmp_path / "v1.tar"
    assert "docker load" in ready("archive", "export", "als/alice:v1", str(target)).out
    assert target.stat().st_size > 0
    ran = ready("snapshot", "restore", "alice", "v1", "--yes")
    assert (ran.status, ran.out) == (0, "als/alice is v1 again.\n"), ran.err
    assert ready("snapshot", "restore", "alice", "v9", "--yes").status == 1
    assert ready("stop", "alice").status == 0


def work_in(engine: MemoryEngine, text: str) -> None:
    [container] = engine.containers({"io.workspaces.workspace": "als/alice"})
    (engine.rootfs(container.name) / "work").write_text(text)


def test_a_restore_keeps_what_was_there_and_says_so(ready: Run, engine: MemoryEngine) -> None:
    ready("start", "alice")
    work_in(engine, "1")
    assert ready("snapshot", "commit", "alice", "-m", "first", "--cmd", "python /x.py").status == 0
    shown = ready("snapshot", "show", "1").out
    assert 'runs: CMD ["/bin/sh", "-c", "python /x.py"]' in shown
    work_in(engine, "2")
    asked = ready("snapshot", "restore", "alice", "v1", typed="n\n")
    assert asked.status == 1
    assert "What is in it now is kept as a version first" in asked.out
    ran = ready("snapshot", "restore", "alice", "v1", "--yes")
    assert (ran.status, ran.out) == (0, "als/alice is v1 again. What was there before is v2.\n"), ran.err
    work_in(engine, "3")
    asked = ready("snapshot", "restore", "alice", "v2", "--discard", typed="y\n")
    assert "All files in it that are in no version will be lost" in asked.out
    assert asked.out.endswith("als/alice is v2 again.\n")
    assert len(ready("snapshot", "list", "alice", "--json").json) == 2  # type: ignore[arg-type]
    assert ready("snapshot", "restore", "alice").status == 2
    assert ready("snapshot", "restore", "alice", "v1", "--from", "als/alice:v1").status == 2
    assert ready("snapshot", "restore", "alice", "v" + "9" * 5000, "--yes").status == 2
    ran = ready("snapshot", "restore", "alice", "--from", "als/alice:v9", "--yes")
    assert (ran.status, "has no image als/alice:v9" in ran.err) == (1, True)


def test_freezing_tells_what_became_of_each_and_thawing_undoes_it(ready: Run, engine: MemoryEngine) -> None:
    never = ready("challenge", "freeze", "als", "--status")
    assert (never.status, "was never frozen" in never.err) == (1, True)
    assert (
        ready("user", "add", "bob", "--challenge", "als", "--password-file", "-", typed="correct horse\n").status == 0
    )
    ready("start", "alice")
    work_in(engine, "1")
    assert ready("challenge", "freeze", "als", "--mode", "stop", typed="n\n").status == 1
    ran = ready("challenge", "freeze", "als", "--mode", "stop", "--yes")
    assert ran.status == 0, ran.err
    assert "2 of 2 done: 1 committed, 1 never started" in ran.out
    assert "committed as v1; it is stopped." in ran.out
    assert "nobody has ever worked in it; it is stopped." in ran.out
    status = ready("challenge", "freeze", "als", "--status", "--json").json
    assert isinstance(status, dict)
    assert (status["mode"], [one["state"] for one in status["workspaces"]]) == ("stop", ["committed", "never started"])
    assert "frozen (stop)" in ready("challenge", "show", "als").out
    assert ready("challenge", "thaw", "als").out == "The challenge als is thawed.\n"
    assert ready("challenge", "thaw", "als").status == 1


def test_a_read_only_workspace_is_shown_as_one(ready: Run) -> None:
    assert ready("challenge", "freeze", "als", "--mode", "read-only", "--yes").status == 0
    assert "it can be read, and not changed" in ready("show", "alice").out


def test_what_a_challenge_decides_by_itself_is_set_and_shown(ready: Run) -> None:
    ran = ready("challenge", "set", "als", "--auto-approve", "2", "--at-close", "read-only", "--downloads", "yes")
    assert ran.status == 0, ran.err
    shown = ready("challenge", "show", "als").out
    assert "requests approved without an administrator: 2 a day of each person" in shown
    assert "at its closing time: read-only; downloads: yes" in shown
    assert ready("challenge", "set", "als", "--at-close", "nothing", "--downloads", "no").status == 0
    assert "at its closing time: nothing; downloads: no" in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--auto-approve", "-1").status == 2


def test_versions_are_compared(ready: Run, engine: MemoryEngine) -> None:
    ready("start", "alice")
    rootfs = engine.rootfs(engine.containers({})[0].name)
    (rootfs / "file\x1b").write_text("1")
    os.utime(rootfs / "file\x1b", (1000, 1000))
    (rootfs / "gone").write_text("123")
    assert ready("snapshot", "diff", "alice", "v1").status == 1
    assert ready("snapshot", "commit", "alice", "-m", "first").status == 0
    (rootfs / "file\x1b").write_text("22")
    os.utime(rootfs / "file\x1b", (1000, 1000))
    (rootfs / "new").write_text("333")
    (rootfs / "gone").unlink()
    assert ready("snapshot", "commit", "alice", "-m", "second").status == 0
    ran = ready("snapshot", "diff", "alice", "v1", "v2")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "from als/alice:v1 to als/alice:v2: 1 added, 1 changed, 1 removed, 5 B"
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["changed", "2", "B", "/file\\x1b", "(content)"],
        ["removed", "3", "B", "/gone"],
        ["added", "3", "B", "/new"],
    ]
    found = ready("snapshot", "diff", "alice", "2", "1", "--json").json
    assert [(c["kind"], c["path"], c["what"]) for c in found["changes"]] == [  # type: ignore[index]
        ("changed", "/file\x1b", ["content"]),
        ("added", "/gone", []),
        ("removed", "/new", []),
    ]
    same = ready("snapshot", "diff", "alice", "v2")
    assert same.out == "from als/alice:v2 to als/alice:v2: 0 added, 0 changed, 0 removed, 0 B\n"
    assert ready("snapshot", "diff", "alice", "v1", "--with", "als/alice").out == ran.out
    assert ready("snapshot", "diff", "alice", "x").status == 2
    assert "no version v9" in ready("snapshot", "diff", "alice", "v9").err
    assert "no workspace" in ready("snapshot", "diff", "alice", "v1", "--with", "nobody").err.lower()


def test_waiting_ends_when_the_engine_is_away(
    ready: Run, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready("start", "alice")
    ready("snapshot", "request", "alice", "-m", "first")

    def away() -> None:
        raise EngineUnavailable("The container engine does not answer.")

    monkeypatch.setattr(engine, "prepare", away)
    ran = ready("snapshot", "approve", "1", "--wait")
    assert ran.status == 1
    assert "does not answer" in ran.err


def test_what_is_done_to_a_workspace_is_recorded(ready: Run) -> None:
    for command in (("start", "alice"), ("restart", "alice"), ("stop", "alice"), ("reset", "alice", "--yes")):
        assert ready(*command).status == 0
    kinds = [event["kind"] for event in ready("audit", "list", "--json").json]  # type: ignore[attr-defined]
    assert kinds[:4] == ["workspace.reset", "workspace.stop", "workspace.restart", "workspace.start"]


def test_reject_and_withdraw(ready: Run) -> None:
    ready("start", "alice")
    ready("snapshot", "request", "alice", "-m", "first")
    assert ready("snapshot", "reject", "1", "-m", "Too big.").status == 0
    assert "Too big." in ready("snapshot", "show", "1").out
    ready("snapshot", "request", "alice", "-m", "second")
    assert ready("snapshot", "withdraw", "2").status == 0
    assert [s["state"] for s in ready("snapshot", "list", "--json").json] == ["withdrawn", "rejected"]  # type: ignore[attr-defined]


def test_reset_asks_first(ready: Run) -> None:
    ready("start", "alice")
    assert ready("reset", "alice", typed="n\n").status != 0
    assert "running" in ready("list").out
    assert ready("reset", "alice", "--yes").status == 0
    assert "absent" in ready("list").out


def test_members(ready: Run) -> None:
    ready("user", "add", "bob", "--password-file", "-", typed="long enough\n")
    assert ready("members", "alice", "--add", "bob").out == "alice\nbob\n"
    assert ready("members", "alice", "--remove", "alice", "--json").json == ["bob"]
    assert ready("members", "alice", "--add", "nobody").status == 1


def test_limits_of_one_workspace_hold_at_once(ready: Run, engine: MemoryEngine) -> None:
    ready("start", "alice")
    [container] = engine.containers({})
    assert "as its challenge says" in ready("limits", "alice").out
    said = ready("limits", "alice", "--memory", "4g", "--cpus", "2").out
    assert said == "als/alice: 2 cpus, 4.0 GiB memory, 512 processes (cpus, memory of its own)\n"
    assert engine.limits_of(container.name).memory == 4 << 30
    assert ready("limits", "alice", "--pids", "64", "--json").json == {
        "cpus": 2.0, "memory": 4 << 30, "pids": 64, "own": {"cpus": 2.0, "memory": 4 << 30, "pids": 64},
    }  # fmt: skip
    assert "limits of its own: 2 cpus" in ready("show", "alice").out
    assert ready("limits", "alice", "--memory", "1k").status == 1
    assert "(pids of its own)" in ready("limits", "alice", "--default", "--pids", "99").out
    ready("limits", "alice", "--default")
    assert engine.limits_of(container.name).memory == 512 << 20


def test_hostile_messages_do_not_reach_the_terminal(ready: Run, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "home" / "workspaces.db")
    workspace = store.workspace("als/alice")
    store.request_snapshot(workspace.id, "two\nlines \u202e<script>", actor="alice", via="ssh")
    store.close()
    for command in (("snapshot", "list"), ("snapshot", "show", "1"), ("audit", "list"), ("show", "alice")):
        assert "\u202e" not in ready(*command).out


def test_a_file_does_not_replace_an_image_unless_it_is_named(ready: Run, engine: MemoryEngine, tmp_path: Path) -> None:
    file = tmp_path / "theirs.tar"
    theirs = FakeImage([layer({"etc/hostname": b"x"})])
    file.write_bytes(named(theirs.old(), "debian-ds:12"))
    base = engine.image("debian-ds:12")
    refused = ready("image", "add", str(file))
    assert refused.status == 1
    assert "debian-ds:12" in refused.err
    assert "--name" in refused.err
    assert engine.image("debian-ds:12") == base
    assert ready("image", "add", str(file), "--name", "theirs:1").out.startswith("theirs:1 is on this host, ")
    assert engine.image("debian-ds:12") == base
    assert ready("image", "add", str(tmp_path / "none.tar")).err.startswith("workspaces: ")


def test_a_stopped_engine_is_reported_and_not_started(
    ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "home" / "engine"
    directory.mkdir()
    (directory / "choice").write_text("private\n")
    said = ready("engine", "status")
    assert (said.status, said.out) == (1, "")
    assert "The private engine does not run." in said.err
    assert "workspaces engine start" in said.err
    assert [path.name for path in directory.iterdir()] == ["choice"]
    monkeypatch.setattr(PrivateEngine, "stop", lambda self: None)
    assert "`workspaces engine start`" in ready("engine", "stop").out


def test_an_engine_that_answers_is_described(ready: Run, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "open_engine", lambda *_, **__: engine)
    info = engine.info()
    assert ready("engine", "status").out.startswith(f"{info.name} {info.version}, ")
    assert f'"name": "{info.name}"' in ready("engine", "status", "--json").out


def test_the_reference_is_up_to_date() -> None:
    assert reference.TARGET.read_text(encoding="utf-8") == reference.render(), "run: python -m tests.support.reference"
