"""The stage of the demonstration: a throw-away state directory, an engine, the running processes, and tidying up.

What is made is found again by the state directory alone, so `workspaces demo --end DIR` can tidy up after --keep:
the private engine's directory, the processes' id in `serve.pid`, and labels on what a shared engine holds.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workspaces import guest, prerequisites, settings, supervisor
from workspaces.demo import story
from workspaces.demo.clients import Browser, Ssh, StepFailed
from workspaces.engine import engine_chosen, open_engine
from workspaces.engine.base import LABEL_INSTANCE, Engine
from workspaces.engine.private import PrivateEngine
from workspaces.engine.processes import last_lines
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.store import Store

MARK = "demo.json"  # in the state directory: says that it may be thrown away


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cache_directory() -> Path:
    """Where the base image's file system is kept between demonstrations."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workspaces"


@dataclass
class Stage:
    """What the steps of the story act on."""

    home: Path
    say: Callable[[str], None]
    password: Callable[[], str]
    cache: Path = field(default_factory=cache_directory)
    ssh_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    passwords: dict[str, str] = field(default_factory=dict)
    people: dict[str, Ssh] = field(default_factory=dict)
    browsers: dict[str, Browser] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def command(self, *arguments: str, typed: str | None = None, timeout: float = 300) -> str:
        """Run `workspaces --home …` as an administrator would; returns its output. StepFailed when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "workspaces.cli", "--home", str(self.home), *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise StepFailed(f"`workspaces {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The engine of the state directory, closed again afterwards."""
        found = settings.load(self.home)
        guest.install(found.guest_dir)
        with closing(Store.open(found.database)) as store, closing(open_engine(found, store.instance)) as engine:
            yield engine

    def command_json(self, *arguments: str) -> Any:
        """The same for a command with --json; returns what it printed, parsed."""
        return json.loads(self.command(*arguments, "--json"))

    def expect(self, holds: bool, otherwise: str) -> None:
        """Raise StepFailed with `otherwise` unless `holds`."""
        if not holds:
            raise StepFailed(otherwise)

    def start_processes(self) -> None:
        """Start `workspaces serve` in a session of its own and wait for its "ready"."""
        log = self.home / "log" / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "workspaces.cli", "--home", str(self.home), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        (self.home / "serve.pid").write_text(str(process.pid), encoding="ascii")
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != b"ready":
            raise StepFailed(f"`workspaces serve` did not become ready: {last_lines(log)}")


class Demo:
    """Runs the story and tidies up. `say` prints a line; `password` makes a new random password."""

    def __init__(self, say: Callable[[str], None], password: Callable[[], str]) -> None:
        self.say = say
        self.password = password

    def run(self, keep: bool) -> int:
        """Play the story; returns the exit status: 0, or 1 when a step failed or something could not be removed."""
        self._check_host()
        begun = time.monotonic()
        home = Path(tempfile.mkdtemp(prefix="workspaces-demo-", dir="/var/tmp"))
        (home / MARK).write_text("{}", encoding="ascii")
        stage = Stage(home, self.say, self.password)
        self.say(f"A throw-away workspace host in {home}\n")
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        played = False
        try:
            played = self._play(stage)
            if played and keep:
                self._leave(stage)
        finally:
            if not (played and keep):
                try:
                    if not played:
                        self._keep_logs(home)
                finally:
                    played = self._tidy(home) and played
        if played:
            said = "" if keep else " Nothing is left behind."
            self.say(f"\nAll {len(story.STEPS)} steps as told, in {time.monotonic() - begun:.0f} s.{said}")
        return 0 if played else 1

    def end(self, directory: str) -> int:
        """End a demonstration that was kept. Raises InvalidInput when `directory` is not one."""
        home = Path(directory).absolute()
        if not (home / MARK).is_file():
            raise InvalidInput(f"{home} is not the directory of a demonstration.", "Nothing was touched.")
        if not self._tidy(home):
            return 1
        self.say("The demonstration is ended and removed.")
        return 0

    def _tidy(self, home: Path) -> bool:
        """Tear down; when something cannot be removed, say what, and how to try again."""
        try:
            tear_down(home)
        except (WorkspacesError, OSError) as problem:
            self.say(f"\nNot all could be removed: {problem}\n{self._how_to_end(home)}")
            return False
        return True

    def _how_to_end(self, home: Path) -> str:
        return f"  to end it: {sys.executable} -m workspaces.cli demo --end {home}"

    def _check_host(self) -> None:
        if os.geteuid() != 0:
            raise WorkspacesError(
                "The demonstration starts containers, which takes root.", "Run it as root: sudo make demo"
            )
        missing = prerequisites.absent()
        if missing:
            names = ", ".join(item.name for item in missing)
            raise WorkspacesError(f"This host lacks {names}.", "Run: make install")

    def _play(self, stage: Stage) -> bool:
        """Run the steps in order, up to the first that fails; returns whether none did."""
        for name, step in story.STEPS:
            begun = time.monotonic()
            try:
                seen = step(stage)
            except Exception as problem:  # whatever it is, the person reads which step failed and why
                reason = str(problem) if isinstance(problem, StepFailed | WorkspacesError) else repr(problem)
                self.say(f"[{time.monotonic() - begun:6.1f} s] FAILED: {name}\n\n{reason}")
                return False
            self.say(f"[{time.monotonic() - begun:6.1f} s] {name}" + (f"\n{_indented(seen)}" if seen else ""))
        return True

    def _leave(self, stage: Stage) -> None:
        (stage.home / MARK).write_text(json.dumps({"ssh": stage.ssh_port, "web": stage.web_port}), encoding="ascii")
        alice, bob = stage.people["alice"], stage.people["bob"]
        self.say("\nIt is left running.")
        self.say(f"  alice   {' '.join(alice.line())}")
        self.say(f"  bob     ssh -p {bob.port} bob@127.0.0.1")
        self.say(f"  web     http://127.0.0.1:{stage.web_port}/")
        for name, password in stage.passwords.items():
            self.say(f"          {name:8}{password}")
        self.say(self._how_to_end(stage.home))

    def _keep_logs(self, home: Path) -> None:
        kept = Path(tempfile.mkdtemp(prefix="workspaces-demo-logs-", dir="/var/tmp"))
        for log in [*(home / "log").glob("*.log"), *(home / "engine").glob("*.log"), *(home / "engine").glob("log/*")]:
            with suppress(OSError):
                shutil.copy(log, kept / log.name)
        self.say(f"\nThe logs are in {kept}")


def tear_down(home: Path) -> None:
    """Stop and remove all that the state directory `home` started, whatever state it is in, and `home` itself.

    Raises WorkspacesError or OSError when something could not be removed; `home` stays then.
    """
    pid_file = home / "serve.pid"
    if pid_file.exists():
        _end_process(int(pid_file.read_text(encoding="ascii")), str(home))
    private = PrivateEngine(home / "engine")
    if (home / "workspaces.db").exists() and not private.exists():
        _empty_engine(home)
    private.stop()
    shutil.rmtree(home)


def _empty_engine(home: Path) -> None:
    """Remove this state directory's containers, images and network from the engine that it shares."""
    found = settings.load(home)
    if not engine_chosen(found):
        return
    with (
        closing(Store.open(found.database)) as store,
        closing(open_engine(found, store.instance, start=False)) as engine,
    ):
        ours = {LABEL_INSTANCE: store.instance}
        for container in engine.containers(ours):
            engine.remove(container.name)
        for image in engine.images(ours):
            engine.remove_image(image.id)
        engine.untag(story.base_name(home))
        engine.retire()


def _end_process(pid: int, home: str) -> None:
    """SIGTERM a supervisor and wait for its end; a pid that is somebody else's by now is left alone."""
    with suppress(ProcessLookupError, FileNotFoundError):
        if home not in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace"):
            return
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not _ends(descriptor, supervisor.DRAIN_SECONDS + 15):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _ends(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def _indented(text: str) -> str:
    return "\n".join(f"             {line}" for line in text.splitlines())
