"""One session: a shell, a command or sftp in the person's workspace, from the request to the exit status.

    request ──► pipes ──► place (store) ──► socket (known, or started) ──► agent spawns ──► bytes flow
            ──► output ends ──► the client has taken it all ──► exit status or signal ──► close

What a person types before the process is there waits in its stdin pipe. A client that goes away hangs the process
up, at any moment of this.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import asyncssh

from sshgate import texts
from sshgate.clocks import Clocks
from sshgate.connection import Channel
from sshgate.doors import SessionDoors
from sshgate.environment import environment, sftp_argv, signal_name, terminal_name
from sshgate.grant import forced
from sshgate.greeting import greeting
from sshgate.places import Place, find
from sshgate.pump import READ_SIZE, Input, Output, pipe
from sshgate.reach import ANSWER_SECONDS, ended, reach
from sshgate.records import Record
from sshgate.tape import Tape
from sshgate.unread import reading_end
from workspaces.engine.guestsocket import accepts
from workspaces.errors import GuestUnavailable, WorkspacesError
from workspaces.guest.client import ExitStatus, GuestClient, Process, SpawnRequest, TermSize
from workspaces.model import Recorded
from workspaces.names import printable

if TYPE_CHECKING:
    from sshgate.auth import Server
    from sshgate.server import Gate

log = logging.getLogger(__name__)

LATE_SECONDS = 0.12  # of looking for the workspace, after which a person at a terminal is told what goes on
PATIENCE_SECONDS = 1.0  # of silence, after which a person at a terminal is told why
WAITING_SECONDS = 15.0
RESIZE_SECONDS = 0.02  # in which window changes become one
CLOSED_SECONDS = 5.0  # for a process to take the input that a client sent before it closed the channel
STALLED_SECONDS = 3600.0  # that the end of a finished process's output may wait for its reader
LOOK_SECONDS = 60.0  # between two looks at whether that is so
LAST_OUTPUT_SECONDS = 2.0  # after a terminal's process ended


class Session(asyncssh.SSHServerSession[bytes]):
    """asyncssh's callbacks for one channel, and the task that carries it through."""

    def __init__(self, gate: Gate, server: Server) -> None:
        self.gate = gate
        self.server = server
        self.place: Place | None = None
        self.record: Record | None = None  # once the process runs
        self.clocks: Clocks | None = None
        self.doors = SessionDoors(server)
        self.closed = False  # both ways, so it no longer counts as one of the connection's sessions
        self._loop = asyncio.get_running_loop()
        self._pty: TermSize | None = None
        self._modes: tuple[tuple[int, int], ...] = ()
        self._term = ""
        self._request: SpawnRequest | None = None
        self._told: dict[bytes, bytes] = {}  # of what was asked for, by a forced command
        self._shell = False
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._input: Input | None = None
        self._unread: int | None = None  # end of the stdin pipe, when that was not empty as it was closed
        self._outputs: list[Output] = []
        self._given: list[int] = []  # ends of pipes that the process gets
        self._resize: asyncio.TimerHandle | None = None
        self._told_starting = False
        self._tape: Tape | None = None  # of a terminal that is recorded
        self._copied = 0  # bytes of output that went into the channel
        self._taken = 0  # bytes of input that came out of it
        self._paused = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._silent = asyncio.Event()  # all output pipes ended

    # --- what the client asks for ---

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.channel = cast(Channel, chan)
        self.server.connection.flows.add(self)

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        if self._request is not None:
            return False
        self._pty = TermSize(*term_size)
        self._modes = tuple(term_modes.items())
        self._term = terminal_name(term_type)
        return True

    def shell_requested(self) -> bool:
        self._shell = True
        return self._accept(SpawnRequest())

    def exec_requested(self, command: str) -> bool:
        return self._accept(SpawnRequest(command=command.encode("utf-8", "surrogateescape")))

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem != "sftp":
            return False
        self._pty = None
        return self._accept(SpawnRequest(argv=sftp_argv()))

    def _accept(self, asked: SpawnRequest) -> bool:
        assert self.server.grant is not None
        command = self.server.grant.options.command
        self._request, self._told = forced(command, asked)
        self._shell = self._shell and command is None
        if self._request.argv:
            self._pty = None
        self.doors.settle()
        try:
            stdin_read, stdin_write = pipe()
            self._given.append(stdin_read)
            self._input = Input(self._loop, stdin_write, self._hold_input, self._input_ended)
            for datatype in (None,) if self._pty else (None, asyncssh.EXTENDED_DATA_STDERR):
                write = partial(self._write, datatype=datatype)
                output_read, output_write = pipe()
                self._given.append(output_write)
                self._outputs.append(Output(self._loop, output_read, write, self._output_ended))
        except OSError as error:
            log.error("no pipe for a session: %s", error.strerror)
            self._release()
            return False
        return True

    def session_started(self) -> None:
        for output in self._outputs:
            output.size = min(READ_SIZE, 32 * self.channel.packet_size())
        self._task = asyncio.create_task(self._run())

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._pty is not None:
            self._pty = TermSize(width, height, pixwidth, pixheight)
            if self._process and self._resize is None:
                self._resize = self._loop.call_later(RESIZE_SECONDS, self._send_size)

    def _send_size(self) -> None:
        self._resize = None
        if self._process and self._pty:
            self._process.resize(self._pty)
            if self._tape:
                self._tape.resize(self._pty.columns, self._pty.rows)

    def signal_received(self, signal: str) -> None:
        if self._process:
            self._process.signal(signal)

    def break_received(self, msec: int) -> bool:
        del msec  # a pseudo-terminal has no line to hold, and as with sshd that is fine
        return self._pty is not None

    # --- bytes ---

    def data_received(self, data: bytes, datatype: int | None) -> None:
        del datatype
        self._taken += len(data)
        if self._process is None and self._pty and b"\x03" in data and self._task:
            self._task.cancel()  # Ctrl-C while the workspace starts
            return
        if self._input:
            self._input.feed(data)

    def eof_received(self) -> bool:
        if self._input:
            self._input.end()
        return True

    def _input_ended(self, fd: int) -> None:
        self._unread = reading_end(fd)
        os.close(fd)

    def _hold_input(self, hold: bool) -> None:
        if hold:
            self.channel.pause_reading()
        else:
            self.channel.resume_reading()

    def _write(self, data: bytes, datatype: int | None = None) -> None:
        self._copied += len(data)
        if self._tape:
            self._tape.output(data)
        if not self.channel.is_closing():
            self.channel.write(data, datatype)

    def pause_writing(self) -> None:
        self._paused = True
        self._drained.clear()
        self.flow_changed()

    def resume_writing(self) -> None:
        self._paused = False
        self._drained.set()
        self.flow_changed()

    def flow_changed(self) -> None:
        if self._process is None:
            return
        for output in self._outputs:
            if self.held:
                output.pause()
            else:
                output.resume()

    @property
    def held(self) -> bool:
        """Whether the client takes nothing at the moment."""
        return self._paused or self.server.connection.blocked

    def _output_ended(self) -> None:
        if all(output.closed for output in self._outputs):
            self._silent.set()

    # --- the way through ---

    async def _run(self) -> None:
        try:
            await self._finish(await self._relay())
        except WorkspacesError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if not self.channel.is_closing():
                self._tell("")
                self.channel.exit(texts.INTERRUPTED_STATUS)
        except Exception:
            log.exception("a session of %s failed", self.server.user)
            self._fail(WorkspacesError(texts.INTERNAL, texts.INTERNAL_HINT))
        finally:
            self._release()

    async def _relay(self) -> ExitStatus:
        """Start the process and carry its bytes; how it ended, once its output is in the channel."""
        assert self.server.user is not None
        grant, wanted = self.server.grant, self.server.wanted
        assert grant is not None
        place = await self.gate.in_store(find, self.gate.store, self.server.user, wanted, grant.challenges)
        self.place = place
        self._record_terminal(place)
        if self._shell and self._pty:
            greeted = await self.gate.in_store(greeting, self.gate.store, place)
            for line in greeted.lines:
                self._tell(line)
            if greeted.news is not None:
                self.gate.note_told(place.user, greeted.news)
        if self._pty:
            for notice in self.server.forwarding.take_notices():
                self._tell(notice)
        self._process, socket = await self._start(place)
        self._close_given()
        if self._pty:
            self._send_size()
        self.flow_changed()
        self._begin(place)
        try:
            status = await self._process.wait()
        except GuestUnavailable:
            await self._last_output(LAST_OUTPUT_SECONDS)
            raise await ended(self.gate, place) from None
        await self._last_output(LAST_OUTPUT_SECONDS if self._pty else None)
        if status.code != 0 and not accepts(socket):
            raise await ended(self.gate, place)  # the agent listens no more: it ended the process
        return status

    def _record_terminal(self, place: Place) -> None:
        """Record what this terminal shows from now on, if the challenge wants that; the person reads so first."""
        if self._pty and self.gate.recorder and place.challenge.record is Recorded.TERMINALS:
            title = f"{place.user} in {place.workspace.ref}"
            self._tape = self.gate.recorder.begin(self._pty.columns, self._pty.rows, self._term, title)
            self._tell(texts.RECORDED)

    def _begin(self, place: Place) -> None:
        kind = "shell" if self._shell else "sftp" if self._request and self._request.argv else "exec"
        self.record = self.gate.note_session(place, kind, self.server.shown, self._tape)
        idle, longest = place.challenge.idle_seconds, place.challenge.session_seconds
        self.clocks = Clocks(self._loop, self._moved, self.announce, self.end, idle=idle, longest=longest)
        self.clocks.closes(place.challenge.closes_at, place.challenge.slug)

    def _moved(self) -> int:
        return self._copied + self._taken

    async def _last_output(self, patience: float | None) -> None:
        """Wait until the process's output has ended: at end of file, or after `patience` seconds without a byte.

        A background process may hold it open for days, so None is no limit; a client that takes nothing is.
        """
        seen, since = -1, self._loop.time()
        while not self._silent.is_set():
            if self._copied != seen:
                seen, since = self._copied, self._loop.time()
            limit = STALLED_SECONDS if self.held else patience
            if limit is not None and self._loop.time() - since >= limit:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._silent.wait(), min(LOOK_SECONDS, limit or LOOK_SECONDS))

    async def _start(self, place: Place) -> tuple[Process, Path]:
        """A process in the workspace, which is started as needed, and its agent's socket. Raises WorkspacesError."""
        return await reach(self.gate, place, partial(self._spawn, place), partial(self._ensure, place.workspace.id))

    async def _ensure(self, workspace_id: int) -> Path:
        late = self._loop.call_later(LATE_SECONDS, self._tell_starting)
        waiting = asyncio.create_task(self._keep_telling())
        try:
            return await self.gate.starter.ensure(workspace_id, self._tell_step)
        finally:
            late.cancel()
            waiting.cancel()

    async def _spawn(self, place: Place, client: GuestClient) -> Process:
        patience = self._loop.call_later(PATIENCE_SECONDS, self._tell, texts.BUSY)
        try:
            await self.server.forwarding.settled()  # not before: whoever asked for a port may wait for the same start
            request = self._spawn_request(place)
            added = await self.doors.open(client, place, request.env, self._complain)
            request = replace(self._spawn_request(place), env={**request.env, **added})
            return await client.spawn(request, self._given, 2 * ANSWER_SECONDS)
        finally:
            patience.cancel()

    def _spawn_request(self, place: Place) -> SpawnRequest:
        """The request as the terminal is by now."""
        assert self._request is not None
        env = environment(self.channel.get_environment_bytes(), self._term, self.server.peer, self.server.own)
        env |= self._told
        env |= {b"WORKSPACE": place.workspace.ref.encode(), b"WORKSPACE_USER": place.user.encode()}
        user = place.challenge.login_user
        return replace(self._request, env=env, user=user, pty=self._pty, modes=self._modes)

    async def _finish(self, status: ExitStatus) -> None:
        """Exit status or signal, after the client has taken all output."""
        if self.channel.is_closing():
            return
        for output in self._outputs:
            output.close()
        self.channel.set_write_buffer_limits(high=0, low=0)  # "drained" now means empty
        try:
            await asyncio.wait_for(self._drained.wait(), STALLED_SECONDS)
        except TimeoutError:
            self.channel.abort()
            return
        self.channel.write_eof()
        if status.signal is not None:
            self.channel.exit_with_signal(signal_name(status.signal), status.core)
        else:
            self.channel.exit(status.code or 0)

    # --- what the person is told ---

    def _tell(self, text: str) -> None:
        """A line on the terminal; nothing without one, so that programs read what programs wrote."""
        if self._pty:
            self._show(f"{text}\r\n".encode())

    def _show(self, data: bytes) -> None:
        if self._tape:
            self._tape.output(data)
        if not self.channel.is_closing():
            self.channel.write(data)

    def _complain(self, text: str) -> None:
        """The same, and on standard error without a terminal."""
        if self._pty:
            self._tell(text)
        elif not self.channel.is_closing():
            self.channel.write_stderr(f"{text}\n".encode())

    def _tell_starting(self) -> None:
        if self.place and not self._told_starting:
            self._told_starting = True
            self._tell(texts.starting(self.place.workspace.ref))

    def _tell_step(self, text: str) -> None:
        self._told_starting = True
        self._tell(printable(text))

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(WAITING_SECONDS)
            self._tell(texts.WAITING)

    def _fail(self, error: WorkspacesError) -> None:
        if self.channel.is_closing():
            return
        text = texts.failure(error)
        if self._pty:
            self._show(text.replace("\n", "\r\n").encode())
        else:
            self.channel.write_stderr(text.encode())
        self.channel.exit(texts.GATEWAY_STATUS)

    def carries(self, workspace_id: int) -> bool:
        """Whether a process of that workspace runs in it."""
        return self.record is not None and self.place is not None and self.place.workspace.id == workspace_id

    def announce(self, text: str) -> None:
        """A line for a person at a terminal, in the midst of whatever it shows."""
        self._tell(f"\r\n{text}")

    def end(self, text: str) -> None:
        """Hang up, and say why; a client that does not take the reason is left without it."""
        self._tell("")
        self._fail(WorkspacesError(text))
        self._loop.call_later(CLOSED_SECONDS, self.channel.abort)
        if self._task:
            self._task.cancel()

    # --- the end ---

    def close_received(self, *, input_waits: bool) -> None:
        """The client closed the channel. If the process has not taken all input, it is given some time to.

        Otherwise the channel is closed both ways, and the client's next packet, perhaps read in the same turn of the
        loop and so before `connection_lost`, may open another session.
        """
        if input_waits:
            self._loop.call_later(CLOSED_SECONDS, self.channel.abort)
        else:
            self.closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._task:
            self._task.cancel()
        else:
            self._release()
        self.server.sessions.discard(self)
        self.server.sessions_changed()
        self.server.connection.flows.discard(self)
        self.gate.changed()

    def _close_given(self) -> None:
        for fd in self._given:
            os.close(fd)
        self._given.clear()

    def _release(self) -> None:
        """Hang the process up if it runs, and close every descriptor. May be called again."""
        if self.clocks:
            self.clocks.stop()
        if self._tape:
            self._tape.close(partial(self.gate.note_recording, self.record) if self.record else None)
            self._tape = None
        if self.record:
            self.gate.records.end(self.record)
            self.record = None
        if self._resize:
            self._resize.cancel()
            self._resize = None
        if self._process:
            self._process.close()
            self._process = None
        self.doors.close()
        if self._input:
            self._input.close()
        if self._unread is not None:
            self.gate.unread.add(self.place.workspace.id if self.place else 0, self._unread)
            self._unread = None
        for output in self._outputs:
            output.close()
        self._close_given()
