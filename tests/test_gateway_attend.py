"""`snapshot` inside a workspace: what it says, what it asks for, and what hostile text does not do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from sshgate.attend import Asking
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from workspaces.engine.memory import MemoryEngine
from workspaces.model import Command, SnapshotState
from workspaces.throttle import Buckets, Rate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def person(stage: GatewayStage) -> Person:
    """Somebody new for each test."""
    return stage.person(f"p{len(stage.store.users())}")


@pytest.fixture
def asking(person: Person) -> Asking:
    assert person.workspace
    return Asking(person.stage.store, person.workspace.id)


def inside(person: Person, command: str) -> str:
    """The in-memory engine's agents listen on a path that is relative to the container's files."""
    engine = person.stage.engine
    assert isinstance(engine, MemoryEngine)
    assert person.workspace
    return f"cd {engine.rootfs(person.stage.lifecycle.container_name(person.workspace))} && {command}"


def test_a_request_from_the_command_line(stage: GatewayStage, person: Person) -> None:
    done = person.run(inside(person, "snapshot -m 'first submission'"))
    assert done.returncode == 0, done.stderr
    assert person.workspace
    (asked,) = stage.store.snapshots(person.workspace.id)
    assert (asked.message, asked.requested_by, asked.requested_via) == ("first submission", person.name, "ssh")
    assert asked.state is SnapshotState.REQUESTED
    assert f"Snapshot #{asked.id} of als/{person.name} is requested".encode() in done.stdout
    listed = person.run(inside(person, "snapshot list")).stdout
    assert b"first submission" in listed
    again = person.run(inside(person, "snapshot -m again"))
    assert again.returncode == 1
    assert again.stdout == b""
    assert b"snapshot:" in again.stderr


def test_nobody_asks_in_the_name_of_somebody_who_has_left(stage: GatewayStage, person: Person) -> None:
    gone = stage.person(f"{person.name}-gone", challenge=None)
    team = stage.store.add_workspace("als", f"{person.name}-team", [person.name, gone.name], actor="chief")
    attending = stage.gateway.shared.attending
    attending.last_users[team.id] = gone.name
    assert attending.member(team.id) == gone.name
    stage.store.remove_member(team.id, gone.name, actor="chief")
    assert attending.member(team.id) == person.name


def test_a_process_that_stays_behind_may_ask(stage: GatewayStage, person: Person) -> None:
    """Nobody is logged in then; also not with a gateway that was started since."""
    assert person.workspace
    done = person.run(inside(person, "{ nohup sh -c 'sleep 0.5; snapshot -m later' >/dev/null 2>&1 & }"))
    assert done.returncode == 0
    stage.gateway.close()
    stage.start()
    until(lambda: stage.store.snapshots(person.workspace.id))  # type: ignore[union-attr]
    assert stage.store.snapshots(person.workspace.id)[0].requested_by == person.name


def test_withdrawing(asking: Asking) -> None:
    assert asking.answer(["withdraw"], "alice")[0] == 1
    assert asking.answer(["-m", "one"], "alice")[0] == 0
    status, text = asking.answer(["withdraw"], "alice")
    assert (status, "is withdrawn" in text) == (0, True)
    assert asking.store.snapshots(asking.workspace_id)[0].state is SnapshotState.WITHDRAWN
    assert asking.answer(["-m", "two"], "alice")[0] == 0


@pytest.mark.parametrize(
    "args", [["-m", "text"], ["-mtext"], ["--message", "text"], ["--message=text"]], ids=lambda args: args[0]
)
def test_ways_to_give_the_message(asking: Asking, args: list[str]) -> None:
    status, text = asking.answer(args, "alice")
    assert status == 0
    assert "Not captured: /dev/shm, sockets, running programs." in text
    assert asking.store.snapshots(asking.workspace_id)[0].message == "text"


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "text", "--cmd", "python x.py"],
        ["--cmd=python x.py", "-mtext"],
        ["--message=text", "--cmd", '["/bin/sh", "-c", "python x.py"]'],
    ],
)
def test_a_command_may_go_with_it_in_any_order(asking: Asking, args: list[str]) -> None:
    status, text = asking.answer(args, "alice")
    assert status == 0
    assert 'It runs CMD ["/bin/sh", "-c", "python x.py"]' in text
    (asked,) = asking.store.snapshots(asking.workspace_id)
    assert asked.message == "text"
    assert asked.command == Command((), ("/bin/sh", "-c", "python x.py"))


def test_a_command_from_inside(person: Person) -> None:
    done = person.run(inside(person, """snapshot -m 'it runs' --cmd '["/run", "a b"]' --entrypoint /init"""))
    assert done.returncode == 0, done.stderr
    assert b'ENTRYPOINT ["/bin/sh", "-c", "/init"] CMD ["/run", "a b"]' in done.stdout


def test_a_command_that_cannot_be_shown_is_refused(asking: Asking) -> None:
    status, text = asking.answer(["-m", "text", "--cmd", "rm -rf /\u202e"], "alice")
    assert (status, "cannot be shown" in text) == (1, True)
    assert asking.store.snapshots(asking.workspace_id) == []


def test_who_is_approved_by_a_rule_is_told_so(stage: GatewayStage, person: Person) -> None:
    assert person.workspace
    stage.store.set_challenge("als", auto_approve=1, actor="chief")
    try:
        text = Asking(stage.store, person.workspace.id).answer(["-m", "text"], person.name)[1]
    finally:
        stage.store.set_challenge("als", auto_approve=0, actor="chief")
    assert "is approved by the challenge's own rule, and is taken now" in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "usage:"),
        (["--cmd", "x"], "say with -m what it is"),
        (["-m", "a", "-m", "b"], "-m is given twice"),
        (["-m", "a", "--cmd"], "--cmd needs a text"),
        (["-m", "a", "--cmd", "x", "y"], "'y' is not known"),
        (["-m"], "needs a text"),
        (["-m", "two", "words"], "in quotes: -m 'two words'"),
        (["first"], "'first' is not known"),
        (["list", "all"], "'list' is not known"),
        (["--force"], "'--force' is not known"),
        (["\x1b[31mred\x1b[0m"], "\\x1b[31mred"),
    ],
)
def test_wrong_use(asking: Asking, args: list[str], said: str) -> None:
    status, text = asking.answer(args, "alice")
    assert status == 2
    assert said in text
    assert "\x1b" not in text
    assert asking.store.snapshots(asking.workspace_id) == []


@pytest.mark.parametrize("message", ["", "  ", "\x1b]0;title\x07", "x" * 1001, "\udcff\udcfe"])
def test_messages_that_are_refused(asking: Asking, message: str) -> None:
    status, text = asking.answer(["-m", message], "alice")
    assert status == 1
    assert "message" in text
    assert asking.store.snapshots(asking.workspace_id) == []


def test_help_and_an_empty_list(asking: Asking) -> None:
    assert asking.answer(["--help"], "alice") == (0, asking.answer(["-h"], "alice")[1])
    assert "No snapshot yet" in asking.answer(["list"], "alice")[1]


def test_the_list_shows_states_reasons_and_nothing_that_a_terminal_obeys(asking: Asking) -> None:
    asking.answer(["-m", "line one\nline two <b>"], "alice")
    (first,) = asking.store.snapshots(asking.workspace_id)
    asking.store.reject_snapshot(first.id, "Leave\tthe raw data out.", actor="chief")
    text = asking.answer(["list"], "alice")[1]
    assert "rejected" in text
    assert "line one\\nline two <b>" in text
    assert "Leave\\tthe raw data out." in text


def test_asking_too_fast_is_slowed_down_and_holds_up_nobody_else(stage: GatewayStage, person: Person) -> None:
    other = stage.person(f"{person.name}-other")
    stage.gateway.shared.attending.attendants._rates = Buckets(Rate(5, 0.1))
    begun = time.monotonic()
    asking = subprocess.Popen(
        [*person.line(), inside(person, "for i in 1 2 3 4 5 6 7 8; do snapshot list & done; wait")],
        stdout=subprocess.PIPE,
    )
    assert other.run(inside(other, "snapshot list")).returncode == 0
    out, _ = asking.communicate(timeout=20)
    assert out.count(b"No snapshot yet") == 8  # as many as the agent lets ask at once
    assert time.monotonic() - begun > 0.3
