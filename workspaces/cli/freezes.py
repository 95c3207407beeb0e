"""Commands that freeze a challenge and thaw it; `challenge` has them."""

from __future__ import annotations

import click

from workspaces.cli.common import App, json_option, pass_app, plain, print_json, print_table, show_progress, when
from workspaces.cli.working import working
from workspaces.errors import NotFound, WorkspacesError
from workspaces.model import Freeze, FreezeMode, Frozen, FrozenState

_THEN = {
    FreezeMode.COMMIT: "Workspaces go on as they are.",
    FreezeMode.STOP: "Workspaces are stopped, and logins refused until: workspaces challenge thaw {slug}",
    FreezeMode.READ_ONLY: "Workspaces can be read, and not changed, until: workspaces challenge thaw {slug}",
}


@click.command("freeze")
@click.argument("slug")
@click.option(
    "--mode",
    type=click.Choice([m.value for m in FreezeMode]),
    default=FreezeMode.COMMIT.value,
    show_default=True,
    help="commit: take a version of each. stop: and stop them. read-only: and let people read, not change, them.",
)
@click.option("--status", is_flag=True, help="How far the last one is; begin nothing.")
@click.option("--no-wait", is_flag=True, help="Leave it to the worker.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_app
def freeze_command(app: App, slug: str, mode: str, status: bool, no_wait: bool, yes: bool, as_json: bool) -> None:
    """Commit every workspace of a challenge that changed since its last version.

    Open sessions end with stop and read-only; with commit they stand still for a moment. A request that waits for a
    decision goes on waiting. It is taken up again after a crash; what fails for one workspace does not stop the others.
    """
    if status:
        found = app.store.freezes(slug)
        if not found:
            raise NotFound(f"The challenge {slug} was never frozen.", f"Do it: workspaces challenge freeze {slug}")
        _print(app, found[0], as_json)
        return
    if not yes and FreezeMode(mode) is not FreezeMode.COMMIT:
        count = len(app.store.workspaces(slug))
        click.confirm(f"Sessions in the {count} workspaces of {slug} end, and programs in them. Go on?", abort=True)
    begun = app.store.begin_freeze(slug, FreezeMode(mode), actor=app.actor)
    if no_wait:
        click.echo(f"The worker freezes {slug}. See: workspaces challenge freeze {slug} --status")
        return
    with working(app) as ended:
        said = ""
        while app.store.freeze(begun.id).ended_at is None and not ended.wait(0.2):
            text = _count(app.store.frozen(begun.id))
            if text != said and not as_json:
                show_progress(text)
                said = text
    _print(app, app.store.freeze(begun.id), as_json)
    if any(one.state is FrozenState.FAILED for one in app.store.frozen(begun.id)):
        raise WorkspacesError("Not every workspace could be committed.", "Try each again: workspaces job retry JOB")


@click.command("thaw")
@click.argument("slug")
@pass_app
def thaw_command(app: App, slug: str) -> None:
    """Let people work again in a challenge that is frozen. Versions stay."""
    count = app.store.thaw(slug, actor=app.actor)
    then = f" The worker makes {count} workspaces writable." if count else ""
    click.echo(f"The challenge {slug} is thawed.{then}")
    closes_at = app.store.challenge(slug).closes_at
    if closes_at is not None:
        click.echo(f"Its logins end {when(closes_at)}. To move that: workspaces challenge set {slug} --closes TIME")


def _print(app: App, freeze: Freeze, as_json: bool) -> None:
    rows = app.store.frozen(freeze.id)
    if as_json:
        print_json({**plain(freeze), "workspaces": [plain(row) for row in rows]})
        return
    thawed = f", thawed {when(freeze.thawed_at)}" if freeze.thawed_at else ""
    over = f"ended {when(freeze.ended_at)}" if freeze.ended_at else "not yet ended"
    why = "at its closing time" if freeze.closes_at else f"by {freeze.requested_by}"
    click.echo(f"{freeze.challenge}: frozen {why}, {when(freeze.began_at)}, {over}{thawed}")
    click.echo(_count(rows))
    print_table(
        rows,
        (
            ("workspace", lambda r: r.workspace),
            ("state", lambda r: r.state),
            ("version", lambda r: f"v{r.version}" if r.version else "-"),
            ("job", lambda r: r.job_id),
            ("what", lambda r: r.detail),
        ),
        False,
        "The challenge has no workspace.",
    )
    if freeze.thawed_at is None:
        click.echo(_THEN[freeze.mode].format(slug=freeze.challenge))


def _count(rows: list[Frozen]) -> str:
    """`3 of 7 done: 1 committed, 2 unchanged`."""
    done = [row.state for row in rows if row.state is not FrozenState.WAITING]
    parts = [f"{done.count(state)} {state}" for state in FrozenState if state in done]
    return f"{len(done)} of {len(rows)} done" + (f": {', '.join(parts)}" if parts else "")
