"""`workspaces serve`'s supervisor, with small programs in the place of gateway, web application and worker."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import until
from workspaces import supervisor

pytestmark = pytest.mark.slow

PROGRAM = """
import errno, sys
from pathlib import Path
from workspaces import settings, supervisor
from workspaces.errors import WorkspacesError
from workspaces.supervisor import Supervisor

home = Path(sys.argv[1])

class Small(Supervisor):
    def command(self, name, ready_fd):
        if (home / "full").exists():
            (home / "full").rename(home / "full.told")
            supervisor.LONGEST_PAUSE = 0.1
            raise OSError(errno.EMFILE, "Too many open files")
        return ["sh", str(home / name), str(ready_fd)]

try:
    Small(settings.load(home), lambda text: print(text, flush=True)).run()
except WorkspacesError as error:
    print(error, flush=True)
    sys.exit(error.exit_status)
print("ended", flush=True)
"""
ANSWERS = 'echo $$ >> "$0.pids"; eval "echo ready >&$1"; eval "exec $1>&-"; exec sleep 1000'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("gateway", "web", "worker"):
        (tmp_path / name).write_text(ANSWERS)
        os.mkfifo(tmp_path / f"{name}.again")
    return tmp_path


@pytest.fixture
def serve(home: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home)], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(home: Path, name: str) -> list[int]:
    path = home / f"{name}.pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def test_ready_once_all_three_answer_and_sigterm_ends_all(home: Path, serve: subprocess.Popen[str]) -> None:
    assert line(serve) == "ready"
    assert line(serve).split()[:4] == ["ssh", "ssh", "-p", "2222"]
    assert line(serve).split() == ["web", "http://127.0.0.1:8080/"]
    children = [pids(home, name)[0] for name in ("gateway", "web", "worker")]
    assert all(alive(pid) for pid in children)
    serve.send_signal(signal.SIGTERM)
    assert line(serve) == "ended"
    assert serve.wait(10) == 0
    assert not any(alive(pid) for pid in children)


def test_a_child_that_is_killed_comes_back(home: Path, serve: subprocess.Popen[str]) -> None:
    # the second start says so through a FIFO, so that the test need not poll
    (home / "web").write_text(
        ANSWERS.replace("exec sleep", f'[ $(wc -l < "$0.pids") -gt 1 ] && echo again > {home}/web.again; exec sleep')
    )
    assert line(serve) == "ready"
    os.kill(pids(home, "web")[0], signal.SIGKILL)
    assert (home / "web.again").read_text() == "again\n"
    first, second = pids(home, "web")
    assert not alive(first)
    assert alive(second)


def test_a_restart_that_fails_is_tried_again(home: Path, serve: subprocess.Popen[str]) -> None:
    (home / "web").write_text(
        ANSWERS.replace("exec sleep", f'[ $(wc -l < "$0.pids") -gt 1 ] && echo again > {home}/web.again; exec sleep')
    )
    assert line(serve) == "ready"
    descriptors = Path(f"/proc/{serve.pid}/fd")
    before = len(list(descriptors.iterdir()))
    (home / "full").touch()
    os.kill(pids(home, "web")[0], signal.SIGKILL)
    assert (home / "web.again").read_text() == "again\n"
    assert (home / "full.told").exists()
    assert alive(pids(home, "gateway")[0])
    until(lambda: len(list(descriptors.iterdir())) == before)


def test_a_first_start_that_fails_is_told(home: Path) -> None:
    (home / "full").touch()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(home)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "The gateway cannot be started: Too many open files.\n"


def test_the_pause_between_restarts_is_bounded() -> None:
    assert [supervisor.pause(failures) for failures in (0, 1, 2, 3, 10_000)] == [1, 1, 2, 4, supervisor.LONGEST_PAUSE]


def test_sighup_renews_all_and_keeps_the_gateway_s_process(home: Path, serve: subprocess.Popen[str]) -> None:
    (home / "gateway").write_text(
        'echo $$ >> "$0.pids"; trap "echo renewed > $0.again" HUP; eval "echo ready >&$1"; eval "exec $1>&-"; '
        "while :; do sleep 0.05; done"
    )
    for name in ("web", "worker"):
        (home / name).write_text(
            ANSWERS.replace(
                "exec sleep", f'[ $(wc -l < "$0.pids") -gt 1 ] && echo again > {home}/{name}.again; exec sleep'
            )
        )
    assert line(serve) == "ready"
    serve.send_signal(signal.SIGHUP)
    assert (home / "gateway.again").read_text() == "renewed\n"
    for name in ("web", "worker"):
        assert (home / f"{name}.again").read_text() == "again\n"
        first, second = pids(home, name)
        assert not alive(first)
        assert alive(second)
    (gateway,) = pids(home, "gateway")
    assert alive(gateway)


def test_a_child_that_cannot_start_ends_it_with_its_last_words(home: Path, serve: subprocess.Popen[str]) -> None:
    (home / "worker").write_text("echo 'no such port' >&2; exit 3")
    assert line(serve) == "The worker ended while starting."
    assert line(serve) == "no such port"
    assert serve.wait(10) == 1
    assert not any(alive(pid) for name in ("gateway", "web") for pid in pids(home, name))


def test_children_die_with_a_killed_supervisor(home: Path, serve: subprocess.Popen[str]) -> None:
    assert line(serve) == "ready"
    descriptors = [os.pidfd_open(pids(home, name)[0]) for name in ("gateway", "web", "worker")]
    serve.kill()
    for descriptor in descriptors:
        # readable when the process has ended
        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
