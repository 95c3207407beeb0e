"""Commands about what leaves this host: webhooks, and mail and calls on their way."""

from __future__ import annotations

import click

from workspaces import deliveries
from workspaces.cli.common import App, json_option, pass_app, print_table, when
from workspaces.model import Delivery, DeliveryState


@click.group("webhook")
def webhook_command() -> None:
    """Addresses that are told of events."""


@webhook_command.command("add")
@click.argument("url")
@pass_app
def webhook_add(app: App, url: str) -> None:
    """Tell URL of requests, decisions, versions and failures from now on; prints the secret that signs the calls."""
    address = deliveries.check_url(url)
    keys = app.settings.keys
    key, secret = deliveries.make_secret(keys)
    try:
        hook = app.store.add_webhook(address, key, actor=app.actor)
    except BaseException:
        deliveries.forget_secret(keys, key)
        raise
    click.echo(f"Webhook {hook.id} is there. Give the receiver this secret; it is not shown again:")
    click.echo(secret)


@webhook_command.command("list")
@json_option
@pass_app
def webhook_list(app: App, as_json: bool) -> None:
    """List webhooks."""
    print_table(
        app.store.webhooks(),
        (("id", lambda h: h.id), ("url", lambda h: h.url), ("added", lambda h: when(h.created_at))),
        as_json,
        "No webhook.",
    )


@webhook_command.command("remove")
@click.argument("id", type=int)
@pass_app
def webhook_remove(app: App, id: int) -> None:
    """Tell it nothing any more; what is on its way to it is dropped."""
    hook = app.store.remove_webhook(id, actor=app.actor)
    deliveries.forget_secret(app.settings.keys, hook.key)
    click.echo(f"Webhook {id} is removed.")


@click.group("delivery")
def delivery_command() -> None:
    """Mail and calls of webhooks, on their way and delivered."""


@delivery_command.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in DeliveryState]))
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10000))
@json_option
@pass_app
def delivery_list(app: App, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List deliveries, the newest first. Those that are dead were given up."""
    print_table(
        app.store.deliveries([DeliveryState(s) for s in states] or None, limit),
        (
            ("id", lambda d: d.id),
            ("state", lambda d: d.state),
            ("what", lambda d: d.kind),
            ("workspace", lambda d: d.workspace or ""),
            ("to", lambda d: d.target or d.user or ""),
            ("tries", lambda d: d.attempts),
            ("created", lambda d: when(d.created_at)),
            ("remark", _remark),
        ),
        as_json,
        "No delivery.",
    )


def _remark(delivery: Delivery) -> str:
    if delivery.state is not DeliveryState.WAITING or not delivery.error:
        return delivery.error or ""
    return f"{delivery.error} Again at {when(delivery.not_before)}."


@delivery_command.command("retry")
@click.argument("id", type=int)
@pass_app
def delivery_retry(app: App, id: int) -> None:
    """Try a dead delivery again."""
    app.store.retry_delivery(id, actor=app.actor)
    click.echo(f"Delivery {id} is on its way again.")
