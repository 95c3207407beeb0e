"""The command that says what is wrong with this host."""

from __future__ import annotations

from contextlib import closing

import click

from workspaces import doctor, settings
from workspaces.cli.common import App, json_option, pass_app, print_json
from workspaces.engine import engine_chosen, open_engine
from workspaces.errors import WorkspacesError


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
