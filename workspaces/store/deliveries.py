"""What leaves this host: webhooks that are told of events, and every mail and call on its way, as durable rows.

    an event ─► one row for each webhook, and for each mail to a person ─► waiting ─┬─► sent
                                                                       ▲─ later ────┤
                                                                                    └─► dead (given up; may be retried)

A row is ended after the receiver has taken it, so one that was killed in between is sent again, under the same `token`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from workspaces.errors import Conflict, NotFound
from workspaces.model import Delivery, DeliveryState, Webhook
from workspaces.store.connection import Connections, Row

KEPT = 500  # ended ones of each target
MOST = 1000  # that wait for one target; what comes then is dead at once
WEBHOOKS_MAX = 20

_DELIVERIES = (
    "SELECT d.id, d.token, u.name AS user, d.webhook_id, coalesce(h.url, u.email, '') AS target, d.kind, d.workspace, "
    "d.payload, d.state, d.attempts, d.not_before, d.error, d.created_at, d.ended_at FROM deliveries d "
    "LEFT JOIN users u ON u.id = d.user_id LEFT JOIN webhooks h ON h.id = d.webhook_id"
)


class Deliveries(Connections):
    # webhooks

    def add_webhook(self, url: str, key: str, *, actor: str) -> Webhook:
        """Have `url` told of events; `key` names the file with its secret. Conflict when it is, or too many are."""
        with self._write():
            hooks = self.webhooks()
            if any(hook.url == url for hook in hooks):
                raise Conflict("That address is told of events already.", "See: workspaces webhook list")
            if len(hooks) >= WEBHOOKS_MAX:
                raise Conflict(
                    f"There are {WEBHOOKS_MAX} webhooks already.", "Remove one: workspaces webhook remove ID"
                )
            id_ = self._insert("webhooks", {"url": url, "key": key, "created_at": time.time()})
            self._record(actor, "webhook.added", data={"webhook": id_, "url": url})
            return self.webhook(id_)

    def webhooks(self) -> list[Webhook]:
        return [Webhook(**row) for row in self._rows("SELECT id, url, key, created_at FROM webhooks ORDER BY id")]

    def webhook(self, webhook_id: int) -> Webhook:
        """Raises NotFound."""
        found = next((hook for hook in self.webhooks() if hook.id == webhook_id), None)
        if found is None:
            raise NotFound(f"There is no webhook {webhook_id}.")
        return found

    def remove_webhook(self, webhook_id: int, *, actor: str) -> Webhook:
        """With what is on its way to it; returns what it was. NotFound."""
        with self._write() as db:
            hook = self.webhook(webhook_id)
            db.execute("DELETE FROM webhooks WHERE id = ?", [webhook_id])
            self._record(actor, "webhook.removed", data={"webhook": webhook_id, "url": hook.url})
            return hook

    # on their way

    def delivery(self, delivery_id: int) -> Delivery:
        """Raises NotFound."""
        row = self._one(f"{_DELIVERIES} WHERE d.id = ?", [delivery_id], f"There is no delivery {delivery_id}.")
        return _to_delivery(row)

    def deliveries(self, states: Iterable[DeliveryState] | None = None, limit: int = 100) -> list[Delivery]:
        """The newest first, at most `limit`, in some states."""
        sql, params = _DELIVERIES, list[object]()
        if states is not None:
            params = [DeliveryState(state) for state in states]
            sql += f" WHERE d.state IN ({', '.join('?' * len(params))})"
        return [_to_delivery(row) for row in self._rows(f"{sql} ORDER BY d.id DESC LIMIT ?", [*params, limit])]

    def claim_delivery(self, hold: float) -> Delivery | None:
        """The one that has been due for longest, with one more attempt; None when nothing is due.

        It is due again after `hold` seconds, unless it is ended or postponed by then. Written before anything is sent:
        while the database cannot be written, nobody is sent the same again and again.
        """
        due = "SELECT id FROM deliveries WHERE state = 'waiting' AND not_before <= ? ORDER BY not_before, id LIMIT 1"
        if self._find(due, [time.time()]) is None:  # without the write lock: the worker asks often
            return None
        with self._write() as db:
            now = time.time()
            row = self._find(due, [now])
            if row is None:
                return None
            sql = "UPDATE deliveries SET attempts = attempts + 1, not_before = ? WHERE id = ?"
            db.execute(sql, [now + hold, row["id"]])
            return self.delivery(row["id"])

    def end_delivery(self, delivery_id: int, error: str | None = None) -> None:
        """WAITING → SENT, or DEAD with an error. Nothing happens when it has ended or is gone."""
        state = DeliveryState.SENT if error is None else DeliveryState.DEAD
        with self._write() as db:
            db.execute(
                "UPDATE deliveries SET state = ?, error = ?, ended_at = ? WHERE id = ? AND state = 'waiting'",
                [state, error, time.time(), delivery_id],
            )

    def postpone_delivery(self, delivery_id: int, error: str, seconds: float, others: float) -> None:
        """Try it again in `seconds`; what else waits for the same webhook, or for the mail server, not within `others`.

        Nothing happens when it has ended or is gone.
        """
        with self._write() as db:
            found = self._find("SELECT webhook_id FROM deliveries WHERE id = ? AND state = 'waiting'", [delivery_id])
            if found is None:
                return
            now = time.time()
            db.execute(
                "UPDATE deliveries SET not_before = ? WHERE state = 'waiting' AND webhook_id IS ? AND not_before < ?",
                [now + others, found["webhook_id"], now + others],
            )
            db.execute(
                "UPDATE deliveries SET error = ?, not_before = ? WHERE id = ?",
                [error, now + seconds, delivery_id],
            )

    def retry_delivery(self, delivery_id: int, *, actor: str) -> Delivery:
        """DEAD → WAITING, due at once. NotFound; Conflict in other states."""
        with self._write() as db:
            found = self.delivery(delivery_id)
            if found.state is not DeliveryState.DEAD:
                raise Conflict(f"Delivery {delivery_id} is {found.state}; only a dead one can be retried.")
            db.execute(
                "UPDATE deliveries SET state = 'waiting', attempts = 0, not_before = 0, ended_at = NULL WHERE id = ?",
                [delivery_id],
            )
            self._record(actor, "delivery.retried", found.workspace, data={"delivery": delivery_id})
            return self.delivery(delivery_id)

    def _deliver(self, column: str, target: int, kind: str, workspace: str | None, payload: str) -> None:
        """Put something on its way; `column` is user_id or webhook_id."""
        with self._write() as db:
            sql = f"SELECT count(*) AS n FROM deliveries WHERE {column} = ? AND state = 'waiting'"  # noqa: S608
            crowded = self._one(sql, [target])["n"] >= MOST
            now = time.time()
            row: Row = {"token": f"msg_{secrets.token_hex(12)}", column: target, "kind": kind, "workspace": workspace}
            row |= {"payload": payload, "created_at": now, "state": DeliveryState.WAITING}
            if crowded:
                row |= {"state": DeliveryState.DEAD, "error": f"{MOST} others wait already.", "ended_at": now}
            self._insert("deliveries", row)
            ended = f"FROM deliveries WHERE {column} = ? AND state != 'waiting'"
            oldest = f"SELECT id {ended} ORDER BY id DESC LIMIT 1 OFFSET ?"
            db.execute(f"DELETE {ended} AND id <= ({oldest})", [target, target, KEPT])


def _to_delivery(row: Row) -> Delivery:
    return Delivery(**{**row, "state": DeliveryState(row["state"])})
