"""Commands that make a state directory, run the processes, and look after the host."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from contextlib import closing, suppress
from functools import partial

import click

from workspaces import accounts, doctor, guest, settings, supervisor
from workspaces.cli.common import App, json_option, pass_app, print_json, read_password
from workspaces.engine import engine_chosen, open_engine, revive_engine
from workspaces.errors import Conflict, UsageError, WorkspacesError
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
    from workspaces.jobs import Worker, main

    _log("worker")
    revive = partial(revive_engine, app.settings)
    worker = Worker(
        app.store,
        app.engine,
        app.lifecycle,
        app.archive,
        app.settings.locks,
        revive,
        places=app.settings.worker_jobs,
        at_once=app.settings.worker_at_once,
        deliver=Deliverer(app.store, app.settings.keys, app.settings.mail, app.settings.web_url).run,
        signer=app.signer,
        registry=app.registry,
    )
    main(worker, lambda: supervisor.report_ready(ready_fd))


def _log(name: str) -> None:
    line = f"%(asctime)s {name}[%(process)d] %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, stream=sys.stderr)


@click.command("doctor")
@json_option
@pass_app
def doctor_command(app: App, as_json: bool) -> None:
    """Say what is wrong with this host, and the fix. Ends with 1 when something does not work."""
    findings = list(doctor.host())
    if settings.is_state_directory(app.home):
        findings += _of_state_directory(app)
    else:
        findings.append(doctor.Finding("warn", "state", f"{app.home} is not a state directory yet", "workspaces init"))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            click.echo(f"{finding.level:5}{finding.subject}: {finding.sentence}")
            if finding.fix:
                click.echo(f"     fix: {finding.fix}")
    bad = sum(finding.level == "bad" for finding in findings)
    if bad:
        raise WorkspacesError(
            f"{bad} of {len(findings)} checks failed.", "Each line above that begins with `bad` has the fix."
        )


def _of_state_directory(app: App) -> list[doctor.Finding]:
    """What settings, store and engine of the state directory have to say; one that fails does not hide the others."""
    findings: list[doctor.Finding] = []
    try:
        findings += doctor.state(app.settings)
        findings += doctor.archive(app.settings)
    except WorkspacesError as error:
        return [doctor.Finding("bad", "settings", error.message, error.hint)]
    try:
        instance = app.store.instance
    except WorkspacesError as error:
        return [*findings, doctor.Finding("bad", "store", error.message, error.hint)]
    findings += doctor.news(app.settings, app.store)
    if not engine_chosen(app.settings):
        return [
            *findings,
            doctor.Finding("ok", "engine", "not chosen yet; `workspaces serve` starts one if none answers"),
        ]
    with closing(open_engine(app.settings, instance, start=False)) as engine:
        return [*findings, *doctor.engine(engine)]


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave it running, and print how to use and how to end it.")
@click.option("--end", metavar="DIR", help="End a demonstration that was kept running.")
def demo_command(keep: bool, end: str | None) -> None:
    """Show the whole story, end to end, on a throw-away state directory."""
    from workspaces.demo import Demo  # with it comes docker, which would make every process slower to start

    demo = Demo(say=click.echo, password=lambda: secrets.token_urlsafe(12))
    status = demo.end(end) if end else demo.run(keep=keep)
    sys.exit(status)
