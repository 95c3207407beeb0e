"""`workspaces serve`: gateway, web application and worker as three processes under one parent.

    serve ─► private engine, when that is the one ─► start 3 children, each with a pipe
          ◄─ one line on each pipe when the child answers ─► "ready" with the ssh line and the URL
          ─► a child that ends is started again, later and later (1 s … 30 s)
          ─► SIGTERM or SIGINT: SIGTERM to all, wait for sessions to drain, end
          ─► SIGHUP, what is installed now takes over: SIGHUP to the gateway, whose open sessions go on; web and worker
             end and start again. This process itself stays what it was.

Production may run each child as a unit of its own instead; nothing is shared but the state directory.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from workspaces.engine.processes import last_lines
from workspaces.errors import HostError
from workspaces.settings import Settings

log = logging.getLogger(__name__)

CHILDREN = ("gateway", "web", "worker")
READY_SECONDS = 60.0
DRAIN_SECONDS = 45.0
LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    ready_fd: int = -1
    ready: bool = False
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)
    renewing: bool = False  # told to end so that a new version starts


class Supervisor:
    """Runs the three processes of one state directory until told to stop."""

    def __init__(self, settings: Settings, announce: Callable[[str], None]) -> None:
        self.settings = settings
        self.announce = announce
        self._children = [_Child(name) for name in CHILDREN]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._asked_to_renew = False

    def run(self) -> None:
        """Start all, announce when they answer, keep them running. Raises HostError when one cannot start."""
        self.settings.logs.mkdir(mode=0o700, exist_ok=True)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGHUP, self._ask_to_renew)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            for child in self._children:
                self._start(child)
            self._await_ready(wake_read)
            if not self._stopping:
                self.announce(self.welcome())
            while not self._stopping:
                self._wait(wake_read, self._next_start())
                if self._asked_to_renew:
                    self._renew()
                self._mend()
        finally:
            self._stop_all()
            self._selector.close()
            signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)

    def welcome(self) -> str:
        """What `serve` prints once all three answer."""
        return f"ready\n  ssh   {ssh_line(self.settings, 'USER')}\n  web   {web_address(self.settings)}"

    def command(self, name: str, ready_fd: int) -> list[str]:
        """How a process is started; it writes a line to `ready_fd` once it answers."""
        program = [sys.executable, "-m", "workspaces.cli", "--home", str(self.settings.home)]
        return [*program, name, "--ready-fd", str(ready_fd)]

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _ask_to_renew(self, *_: object) -> None:
        self._asked_to_renew = True

    def _renew(self) -> None:
        self._asked_to_renew = False
        for child in self._children:
            if child.process is None or not child.ready:
                continue  # it starts as what is installed by then, or did a moment ago
            if child.name == "gateway":
                child.process.send_signal(signal.SIGHUP)
            else:
                child.renewing = True
                child.process.terminate()

    def _start(self, child: _Child) -> None:
        """Raises HostError when there is no room for a process, its pipe or its log."""
        try:
            read_end = self._spawn(child)
        except OSError as exc:
            raise HostError(f"The {child.name} cannot be started: {exc.strerror}.") from exc
        child.ready_fd, child.ready, child.started = read_end, False, time.monotonic()
        self._selector.register(read_end, selectors.EVENT_READ, child)

    def _spawn(self, child: _Child) -> int:
        """Start the process; the end of its pipe that becomes readable when it answers."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            with (self.settings.logs / f"{child.name}.log").open("ab") as output:
                child.process = subprocess.Popen(
                    # dies with this process, even when that gets SIGKILL
                    ["setpriv", "--pdeathsig", "TERM", "--", *self.command(child.name, write_end)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(write_end,),
                    start_new_session=True,
                )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return read_end

    def _wait(self, wake_read: int, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                continue
            child: _Child = key.data
            child.ready = os.read(child.ready_fd, 64).startswith(b"ready")
            self._forget_pipe(child)

    def _forget_pipe(self, child: _Child) -> None:
        if child.ready_fd >= 0:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = -1

    def _await_ready(self, wake_read: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopping and not all(child.ready for child in self._children):
            self._wait(wake_read, max(0.0, deadline - time.monotonic()))
            for child in self._children:
                ended = child.process is not None and child.process.poll() is not None
                if ended or (not child.ready and time.monotonic() >= deadline):
                    path = self.settings.logs / f"{child.name}.log"
                    what = "ended while starting" if ended else f"did not answer within {READY_SECONDS:.0f} s"
                    raise HostError(f"The {child.name} {what}.", f"{last_lines(path)}\nIts log: {path}")

    def _next_start(self) -> float | None:
        waiting = [child.due for child in self._children if child.process is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _mend(self) -> None:
        """Note children that ended, and start again those whose pause is over."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and (status := child.process.poll()) is not None:
                self._forget_pipe(child)
                if child.renewing:
                    wait, child.renewing = 0.0, False
                    log.info("the %s ended and starts again", child.name)
                else:
                    child.failures = 0 if now - child.started > LONGEST_PAUSE else child.failures + 1
                    wait = pause(child.failures)
                    log.error("the %s ended with status %s; it starts again in %.0f s", child.name, status, wait)
                child.process, child.due = None, now + wait
            if child.process is None and child.due <= now and not self._stopping:
                try:
                    self._start(child)
                except HostError as error:  # the others, and the sessions that they serve, go on
                    child.failures += 1
                    wait = pause(child.failures)
                    log.error("%s It is tried again in %.0f s", error.message, wait)
                    child.due = now + wait

    def _stop_all(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self._children:
            self._forget_pipe(child)


def pause(failures: int) -> float:
    """Seconds to wait before a start, after so many that failed in a row."""
    return min(LONGEST_PAUSE, 2.0 ** min(10, max(0, failures - 1)))


def report_ready(fd: int | None) -> None:
    """Tell the supervisor, on the descriptor that it gave, that this process answers."""
    if fd is not None:
        with suppress(OSError):
            os.write(fd, b"ready\n")
            os.close(fd)


def ssh_line(settings: Settings, user: str) -> str:
    """The command that `user` types to log in."""
    host, port = settings.gateway_listen
    name = settings.gateway_host or (socket.gethostname() if host in ("0.0.0.0", "::") else host)  # noqa: S104
    return f"ssh {user}@{name}" if port == 22 else f"ssh -p {port} {user}@{name}"


def web_address(settings: Settings) -> str:
    """The address of the web application that people open."""
    host, port = settings.web_listen
    return settings.web_url or f"http://{f'[{host}]' if ':' in host else host}:{port}/"
