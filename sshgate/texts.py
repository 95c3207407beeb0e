"""Every sentence that a participant reads from the gateway. Text from outside is escaped before it gets here."""

from __future__ import annotations

from datetime import UTC, datetime

from workspaces.commands import shown_command
from workspaces.errors import WorkspacesError
from workspaces.model import Mount, Snapshot, SnapshotState
from workspaces.names import printable, span

GATEWAY_STATUS = 254  # of a session that failed because of the gateway or engine, not because of the command
INTERRUPTED_STATUS = 130  # Ctrl-C while the workspace starts

ASK_PASSWORD = "Password: "  # noqa: S105
ASK_CODE = "One-time code: "
TOO_MANY_TRIES = "Too many authentication failures"
TOO_MANY_CONNECTIONS = "Too many connections of this account"
TOO_MANY_SESSIONS = "Too many sessions on this connection"
TOO_MANY_ACCOUNT_SESSIONS = "Too many sessions of this account"
CLOSING = "The gateway is shutting down; connect again in a minute"
UNSETTLED = "The gateway is too busy to let you in; try again in a minute"
ACCOUNT_CLOSED = "This account was disabled"
SESSION_KILLED = "This session was ended by an administrator, or by you on your page."
MEMBERSHIP_ENDED = "You are no longer a member of {ref}."
INTERNAL = "The gateway made a mistake, which is logged."
INTERNAL_HINT = "Try again; if it happens again, tell the organisers the time."
NO_SFTP = "Neither the image of this workspace nor its host has an sftp-server."
NO_SFTP_HINT = "Inside the workspace: apt-get install openssh-sftp-server   Or: ssh … cat FILE > FILE, or scp -O"
TOO_MANY_STREAMS = "Too many forwarded connections on this connection"
TOO_MANY_ACCOUNT_STREAMS = "Too many forwarded connections of this account"
TOO_MANY_ALL_STREAMS = "The gateway carries too many forwarded connections; try again in a minute"
TOO_MANY_LISTENERS = "Too many ports are forwarded on this connection."
NO_TEXT = "That is not a host name or path"
NO_XAUTH = "X11 is not forwarded: the image has no xauth. Inside the workspace: apt-get install xauth"
RECORDED = "This terminal is recorded: what it shows is kept for a time, and the organisers can watch and replay it."
WAITING = "Still waiting for the container engine …"
BUSY = "The workspace does not answer at once; a snapshot may be under way. Waiting …"
SLOW_TO_ANSWER = "The workspace did not answer within {seconds:.0f} s."
SLOW_TO_ANSWER_HINT = "Try again; if it stays so, the organisers can restart it."
SLOW_TO_START = "The container engine did not start the workspace within {seconds:.0f} s."
SLOW_TO_START_HINT = "It goes on trying: log in again in a few minutes. If it stays so, tell the organisers."

SNAPSHOT_HELP = """\
usage: snapshot -m TEXT [--cmd LINE] [--entrypoint LINE]
                            ask for a snapshot of this workspace, with a message and what it runs
       snapshot list        your snapshots and what became of them
       snapshot withdraw    take back the request that nobody has decided on yet
LINE is one for the shell, or a list: ["program", "argument"]
"""


def wait_before_password(seconds: float) -> str:
    return f"Too many password tries: wait {seconds:.0f} s, or use a key.\n"


def starting(ref: str) -> str:
    return f"Starting your workspace {ref} …"


def idle_warning(left: float) -> str:
    return f"Nothing has moved here for a while: this session ends in {_left(left)} unless something does."


def idle_end(limit: float) -> str:
    return f"This session ended: nothing moved in it for {span(limit)}."


def longest_warning(left: float) -> str:
    return f"This session ends in {_left(left)}: it has reached the longest time that sessions may last here."


def longest_end(limit: float) -> str:
    return f"This session ended: sessions last {span(limit)} at most here. Connect again to go on."


def closing_warning(challenge: str, left: float) -> str:
    return f"The challenge {challenge} closes in {_left(left)}; this session ends then."


def closing_end(challenge: str) -> str:
    return f"The challenge {challenge} has closed, and this session with it. Your files and versions are kept."


def _left(seconds: float) -> str:
    return span(seconds if seconds < 60 else round(seconds / 60) * 60)


def ended(ref: str, reason: str) -> str:
    """`reason` is Lifecycle.diagnose()'s."""
    return f"The workspace {ref} ended: {reason.rstrip('.')}. Log in again to start it."


def not_allowed(challenge: str, kind: str) -> str:
    """`kind` is model.Forwarding's."""
    what = {"local": "-L, -D and -W", "remote": "-R", "agent": "forwarding of the agent", "x11": "forwarding of X11"}
    return f"The challenge {challenge} does not allow {what[kind]}."


def not_forwarded(what: str, reason: str) -> str:
    return f"{what} is not forwarded: {reason}"


def draining(seconds: float) -> str:
    return (
        f"The gateway closes this connection in {seconds:.0f} s. Your workspace keeps running; "
        "what runs under nohup or tmux goes on. Connect again in a minute."
    )


def failure(error: WorkspacesError) -> str:
    """Message and hint as lines that end with newline."""
    return f"{error.message}\n{error.hint}\n" if error.hint else f"{error.message}\n"


def requested(snapshot: Snapshot, mounts: tuple[Mount, ...]) -> str:
    """`mounts` are the challenge's data directories."""
    state = "requested; the organisers decide on it"
    if snapshot.state is SnapshotState.APPROVED:
        state = "approved by the challenge's own rule, and is taken now"
    runs = f"It runs {shown_command(snapshot.command)}\n" if snapshot.command else ""
    left_out = ", ".join([*(printable(mount.target) for mount in mounts), "/dev/shm", "sockets", "running programs"])  # noqa: S108
    return (
        f"Snapshot #{snapshot.id} of {snapshot.workspace} is {state}.\n{runs}"
        f"It captures every file of the workspace as it is then. Not captured: {left_out}.\n"
        "See what became of it: snapshot list"
    )


def snapshots(rows: list[Snapshot]) -> str:
    """A table, newest first; messages are printable by then."""
    if not rows:
        return 'No snapshot yet. Ask for one: snapshot -m "what it is"'
    lines = []
    for row in rows:
        version = f"v{row.version}" if row.version is not None else ""
        line = f"#{row.id:<5}{row.state:<11}{version:<5}{when(row.requested_at)}  {row.message}"
        lines.append(f"{line}\n       {row.state}: {row.reason}" if row.reason else line)
    return "\n".join(lines)


def when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
