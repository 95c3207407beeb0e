"""What every command shares: the group, the lazily opened parts, and how lists, JSON and errors are printed."""

from __future__ import annotations

import dataclasses
import getpass
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from workspaces import __version__, settings
from workspaces.errors import InvalidInput, SettingsError, UsageError, WorkspacesError
from workspaces.model import Key, Workspace
from workspaces.names import amount, printable

if TYPE_CHECKING:  # else imported by the part of App that is used: together they take half of a short command's time
    from workspaces.archive import Archive
    from workspaces.engine.base import Engine
    from workspaces.lifecycle import Lifecycle
    from workspaces.provenance import Signer
    from workspaces.registry import Registry
    from workspaces.remote import Client, RemoteStore
    from workspaces.store import Store

T = TypeVar("T")

COMMANDS = {
    "workspaces.cli.setup": ("init", "serve", "gateway", "web", "worker", "demo"),
    "workspaces.cli.doctor": ("doctor",),
    "workspaces.cli.host": ("engine", "image"),
    "workspaces.cli.challenges": ("challenge",),
    "workspaces.cli.people": ("user", "key"),
    "workspaces.cli.identity": ("authority", "hostkey"),
    "workspaces.cli.tokens": ("token",),
    "workspaces.cli.containers": ("list", "show", "start", "stop", "restart", "reset", "remove", "members", "limits"),
    "workspaces.cli.sessions": ("session",),
    "workspaces.cli.announcements": ("announcement", "message"),
    "workspaces.cli.snapshots": ("snapshot",),
    "workspaces.cli.archive": ("archive",),
    "workspaces.cli.jobs": ("job", "audit"),
    "workspaces.cli.news": ("webhook", "delivery"),
}


# What works on a server elsewhere too, or says at which of its options it does not.
ELSEWHERE = frozenset(
    [
        "list",
        "show",
        "start",
        "stop",
        "restart",
        "reset",
        "remove",
        "members",
        "limits",
        "announcement",
        "message",
        "archive",
        "key",
        "image",
        "snapshot",
        "job",
        "audit",
        "session",
        "user",
        "challenge",
    ]
)


class App:
    """One run of the command: its state directory, and what is opened from it when first used."""

    def __init__(self, home: str | None, server: str | None = None, token_file: str | None = None) -> None:
        self.home = settings.home_path(home)
        self.server = server  # its address, when it is one elsewhere: then only `store` and `lifecycle` are there
        self._token_file = token_file
        self._exit = ExitStack()

    @cached_property
    def remote(self) -> Client:
        from workspaces.remote import Client

        assert self.server is not None
        return Client(self.server, read_token(self._token_file))

    @property
    def there(self) -> RemoteStore | None:
        """The store of a server elsewhere when one is meant, for what its API does in another way than a store."""
        return None if self.server is None else cast("RemoteStore", self.store)

    def only_here(self, what: str = "This command") -> None:
        """Raise UsageError when a server elsewhere is meant, of which only the API is there."""
        if self.server is not None:
            from workspaces.remote import on_host

            raise on_host(what)

    @cached_property
    def settings(self) -> settings.Settings:
        self.only_here()
        if not settings.is_state_directory(self.home):
            raise SettingsError(
                f"{self.home} is not a state directory.",
                "Make one with: workspaces init --admin NAME   (or name another with --home DIR)",
            )
        return settings.load(self.home)

    @cached_property
    def store(self) -> Store:
        if self.server is not None:
            from workspaces.remote import RemoteStore

            return cast("Store", RemoteStore(self.remote))
        from workspaces.store import Store

        store = Store.open(self.settings.database)
        self._exit.callback(store.close)
        return store

    @cached_property
    def engine(self) -> Engine:
        from workspaces import guest
        from workspaces.engine import open_engine

        guest.install(self.settings.guest_dir)
        engine = open_engine(self.settings, self.store.instance)
        self._exit.callback(engine.close)
        return engine

    @cached_property
    def lifecycle(self) -> Lifecycle:
        if self.server is not None:
            from workspaces.remote import RemoteLifecycle

            return cast("Lifecycle", RemoteLifecycle(self.remote, cast("RemoteStore", self.store)))
        from workspaces.lifecycle import Lifecycle

        self.engine.prepare()
        return Lifecycle(self.store, self.engine, self.settings.locks)

    @cached_property
    def archive(self) -> Archive:
        from workspaces.archive import open_archive

        return open_archive(self.settings)

    @cached_property
    def signer(self) -> Signer:
        from workspaces.provenance import Signer

        return Signer(self.settings.keys)

    @cached_property
    def registry(self) -> Registry | None:
        """None when no registry is set."""
        found = self.settings
        if not found.registry_url:
            return None
        from workspaces.registry import Registry

        return Registry(found.registry_url, found.keys)

    @property
    def actor(self) -> str:
        """Who acts, for the record: the host's account, marked as the command line's."""
        return f"cli:{os.environ.get('SUDO_USER') or getpass.getuser()}"

    def close(self) -> None:
        self._exit.close()


class Group(click.Group):
    """Loads a command's module when it is called, so that `workspaces --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in COMMANDS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for module, names in COMMANDS.items():
            if cmd_name in names:
                found = getattr(importlib.import_module(module), f"{cmd_name}_command")
                return found if isinstance(found, click.Command) else None
        return None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help="State directory (else WORKSPACES_HOME, else /var/lib/workspaces).")
@click.option("--server", metavar="URL", help="Act on a server elsewhere, through its API, with a token.")
@click.option("--token-file", metavar="FILE", help="File with one line, the token (else WORKSPACES_TOKEN).")
@click.version_option(__version__)
@click.pass_context
def cli(ctx: click.Context, home: str | None, server: str | None, token_file: str | None) -> None:
    """Personal, persistent containers for the participants of a data challenge, with versioned snapshots."""
    ctx.obj = App(home, server, token_file)
    if server is not None and ctx.invoked_subcommand not in ELSEWHERE:
        ctx.obj.only_here()
    ctx.call_on_close(ctx.obj.close)


pass_app = click.make_pass_decorator(App)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main() -> None:
    """Run the command line; errors of ours become one sentence on standard error and an exit status."""
    try:
        cli(prog_name="workspaces")
    except WorkspacesError as error:
        click.echo(f"workspaces: {error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        sys.exit(error.exit_status)
    except PermissionError as error:
        click.echo(f"workspaces: {error.filename} is not open to this user.\nRun this as root.", err=True)
        sys.exit(1)


def read_password(path: str | None, what: str) -> str | None:
    """The one line of a password file (`-`: standard input), or asked for on a terminal, or None without either."""
    if path is None:
        if not sys.stdin.isatty():
            return None
        return str(click.prompt(f"Password for {what}", hide_input=True, confirmation_prompt=True, err=True))
    try:
        text = sys.stdin.readline() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"The password file {path} cannot be read: {exc}.") from exc
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0]:
        raise InvalidInput("A password file holds one line, the password.")
    return lines[0]


def read_token(path: str | None) -> str:
    """The token for a server: the one line of a file, or WORKSPACES_TOKEN. Raises UsageError, InvalidInput."""
    if path is None:
        if token := os.environ.get("WORKSPACES_TOKEN", "").strip():
            return token
        raise UsageError(
            "A server is asked with a token.",
            "Set WORKSPACES_TOKEN or use --token-file; your account's page makes one.",
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"The token file {path} cannot be read: {exc}.") from exc
    return text.strip()


def read_key(file: BinaryIO) -> str:
    """The text of a public key file. Raises InvalidInput for what is no text."""
    try:
        return file.read(65536).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidInput("That file is not a public key.", "Give the .pub file, e.g. ~/.ssh/id_ed25519.pub.") from exc


def save(output: Path | None, write: Callable[[BinaryIO], int]) -> None:
    """Have bytes written to a new file, which is gone again when that fails; or to standard output."""
    if output is None:
        write(sys.stdout.buffer)
        return
    try:
        with output.open("xb") as target:
            try:
                size = write(target)
            except BaseException:
                output.unlink()
                raise
    except OSError as exc:
        raise InvalidInput(f"{output} cannot be written: {exc.strerror}.") from exc
    click.echo(f"{output}: {amount(size)}", err=True)


def when(seconds: float | None) -> str:
    """A time for people to read, in UTC; `-` when there is none."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def plain(thing: Any) -> Any:
    """A model object as what `json` can print; times in ISO 8601, UTC."""
    if not dataclasses.is_dataclass(thing) or isinstance(thing, type):
        return thing
    data = dataclasses.asdict(thing)
    if isinstance(thing, Workspace):
        data["ref"] = thing.ref
    for name, value in data.items():
        if name.endswith("_at") and isinstance(value, int | float):
            data[name] = datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds")
    if isinstance(thing, Key):
        data["type"] = thing.line.split()[0]
    return data


def print_json(thing: Any) -> None:
    """Print one model object, or a list of them, as JSON."""
    click.echo(json.dumps([plain(t) for t in thing] if isinstance(thing, list) else plain(thing), indent=2))


def print_table(
    things: Sequence[T], columns: Iterable[tuple[str, Callable[[T], object]]], as_json: bool, empty: str
) -> None:
    """Print `things` as an aligned table, or as JSON; `empty` is said on standard error when there are none."""
    if as_json:
        print_json(list(things))
        return
    if not things:
        click.echo(empty, err=True)
        return
    heads, cells = zip(*columns, strict=True)
    rows = [[head.upper() for head in heads]]
    rows += [[printable(str(cell(thing)).replace("\n", " "), 80) for cell in cells] for thing in things]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def show_progress(message: str, fraction: float | None = None) -> None:
    """One line of progress on standard error."""
    click.echo(f"  {message}" + (f" ({fraction:.0%})" if fraction is not None else ""), err=True)
