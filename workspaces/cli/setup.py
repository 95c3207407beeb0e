"""Commands that make a state directory, run the processes, and show it all."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from contextlib import closing, suppress
from functools import partial

import click

from workspaces import accounts, guest, settings, supervisor
from workspaces.cli.common import App, pass_app, read_password
from workspaces.cli.working import make_worker
from workspaces.engine import revive_engine
from workspaces.errors import Conflict, UsageError
from workspaces.model import Role
from workspaces.names import check_name
from workspaces.provenance import Signer
from workspaces.store import Store


@click.command("init")
@click.option("--admin", metavar="NAME", help="The first administrator.")
@click.option("--password-file", metavar="F", help="File with one line, the administrator's password (- for stdin).")
@pass_app
def init_command(app: App, admin: str | None, password_file: str | None) -> None:
    """Make a state directory: keys, database, first administrator."""
    from sshgate.hostkey import ensure_host_key

    database = app.home / "workspaces.db"
    if settings.is_state_directory(app.home):
        raise Conflict(f"{app.home} is a state directory already.", "Nothing was changed.")
    if admin:
        check_name(admin, "user")
    password = read_password(password_file, admin) if admin else None
    if admin and password is None:
        raise UsageError(f"{admin} needs a password.", "Use --password-file FILE, or run it on a terminal.")
    if password is not None:
        accounts.check_password_rule(password)
    app.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = settings.load(app.home)
    for directory in (found.keys, found.locks, found.logs):
        directory.mkdir(mode=0o700, exist_ok=True)
    guest.install(found.guest_dir)
    fingerprint = ensure_host_key(found.keys)
    signing = Signer(found.keys).public.fingerprint
    # The database makes it a state directory, so it comes last and under another name until it is complete.
    unfinished = app.home / f".workspaces.db.{os.getpid()}"
    try:
        with closing(Store.open(unfinished)) as store:
            if admin:
                accounts.create_user(store, admin, role=Role.ADMIN, password=password, actor=app.actor)
        unfinished.rename(database)
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"{app.home} is ready{f' with the administrator {admin}' if admin else ''}.")
    click.echo(f"The gateway's key: {fingerprint}")
    click.echo(f"Versions are signed by: {signing}")
    click.echo("Next: workspaces image build debian-ds:12, workspaces challenge add, workspaces serve")


@click.command("serve")
@pass_app
def serve_command(app: App) -> None:
    """Run gateway, web application and worker; prints "ready" once all three answer."""
    _log("serve")
    app.engine.prepare()
    app.engine.close()
    supervisor.Supervisor(app.settings, click.echo).run()


_ready_fd = click.option("--ready-fd", type=int, hidden=True)


@click.command("gateway")
@_ready_fd
@click.option("--check", is_flag=True, hidden=True)
@pass_app
def gateway_command(app: App, ready_fd: int | None, check: bool) -> None:
    """Run the ssh gateway. SIGHUP: a new version takes over, and open sessions go on."""
    import sshgate

    _log("gateway")
    if check:
        app.lifecycle.store.data_version()
        sshgate.check(app.settings)
        return
    if ready_fd is not None:
        with suppress(OSError):  # after a takeover there is none
            os.set_inheritable(ready_fd, False)
    sshgate.main(app.settings, app.store, lambda: app.lifecycle, lambda *_: supervisor.report_ready(ready_fd))


@click.command("web")
@_ready_fd
@pass_app
def web_command(app: App, ready_fd: int | None) -> None:
    """Run the web application."""
    import webadmin

    _log("web")
    webadmin.main(app.settings, app.store, lambda *_: supervisor.report_ready(ready_fd))


@click.command("worker")
@_ready_fd
@pass_app
def worker_command(app: App, ready_fd: int | None) -> None:
    """Run the worker that commits, archives and restores."""
    from workspaces.deliveries import Deliverer
    from workspaces.jobs import main
    from workspaces.recordings import Keeper

    _log("worker")
    worker = make_worker(
        app,
        revive=partial(revive_engine, app.settings),
        places=app.settings.worker_jobs,
        at_once=app.settings.worker_at_once,
        deliver=Deliverer(app.store, app.settings.keys, app.settings.mail, app.settings.web_url).run,
        keep_recordings=Keeper(app.store, app.settings).run,
    )
    main(worker, lambda: supervisor.report_ready(ready_fd))


def _log(name: str) -> None:
    line = f"%(asctime)s {name}[%(process)d] %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, stream=sys.stderr)
    logging.getLogger("paramiko").setLevel(logging.WARNING)  # else two lines for each terminal in the browser


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave it running, and print how to use and how to end it.")
@click.option("--end", metavar="DIR", help="End a demonstration that was kept running.")
def demo_command(keep: bool, end: str | None) -> None:
    """Show the whole story, end to end, on a throw-away state directory."""
    from workspaces.demo import Demo  # with it comes docker, which would make every process slower to start

    demo = Demo(say=click.echo, password=lambda: secrets.token_urlsafe(12))
    status = demo.end(end) if end else demo.run(keep=keep)
    sys.exit(status)
