"""Mail and webhooks leave this host: one thread of the worker, which takes what is due from the store, one at a time.

    store.claim_delivery ─► mail: SMTP (mail.py)  ─┬─► taken   ─► end_delivery
                         └► webhook: POST, signed  ├─► refused ─► later and later, in the end dead
                            (Standard Webhooks)    └─► no such recipient ─► dead

It is recorded as sent after the receiver has taken it: killed in between it is sent again, with the same id, by which a
receiver can tell (webhook-id, Message-ID). A try that takes longer than TRY_SECONDS is left to itself, and nothing else
is tried at that target until it has ended.

Administrators name the addresses, so private ones are allowed: a chat server stands next door. Link-local addresses and
those of clouds' metadata services are never called, and no redirect is followed.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import random
import secrets
import socket
import stat
import threading
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from standardwebhooks import Webhook as Signer

from workspaces import __version__, mail
from workspaces.errors import HostError, InvalidInput, WorkspacesError
from workspaces.files import put
from workspaces.model import Delivery
from workspaces.names import printable, span
from workspaces.settings import Mail
from workspaces.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
TRY_SECONDS = 30.0
HOLD_SECONDS = 60.0  # after which one whose outcome was not written is sent again
CONNECT_SECONDS = 10.0
# After each failure; with the last one used up, about 17 hours after the event, it is dead.
PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 14400.0, 14400.0)
TARGET_PAUSE = 60.0  # at most, for what else waits for the same webhook, or for the mail server
URL_MAX = 500
ERROR_MAX = 300
# Azure's, Alibaba's and AWS's: not link-local, and as dangerous.
_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")))


class Permanent(Exception):
    """No repetition helps; the argument is a sentence."""


class _Stopped(Exception):
    """The worker stops while the other side has not answered."""


class Deliverer:
    """`settings` is how mail leaves, None for not at all; `keys` holds secrets; `url` is the web application's."""

    def __init__(self, store: Store, keys: Path, settings: Mail | None, url: str = "") -> None:
        self._store = store
        self._keys = keys
        self._mail = settings
        self._url = url
        self._tries: dict[int | None, threading.Thread] = {}  # by webhook, None is mail: those left to themselves

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop."""
        while not stop.is_set():
            try:
                delivery = self._store.claim_delivery(HOLD_SECONDS)
                if delivery is not None:
                    self._deliver(delivery, stop)
                    continue
            except WorkspacesError as exc:
                log.warning("nothing could be delivered: %s", exc.message)
            except Exception:
                log.exception("a delivery failed unexpectedly")
            stop.wait(LOOK_SECONDS)

    def _deliver(self, delivery: Delivery, stop: threading.Event) -> None:
        target = delivery.webhook_id
        try:
            before = self._tries.get(target)
            if before is not None and before.is_alive():
                raise TimeoutError(f"An earlier try has not ended after {span(TRY_SECONDS)}.")
            self._tries.pop(target, None)
            self._within(target, self._sender(delivery), stop)
        except _Stopped:
            return
        except Permanent as exc:
            self._dead(delivery, str(exc))
        except mail.RecipientRefused as exc:
            if exc.permanent:
                self._dead(delivery, str(exc))
            else:
                self._later(delivery, str(exc), others=0.0)
        except Exception as exc:
            self._later(delivery, _sentence(exc), others=TARGET_PAUSE)
        else:
            self._store.end_delivery(delivery.id)

    def _later(self, delivery: Delivery, said: str, others: float) -> None:
        if delivery.attempts > len(PAUSES):
            self._dead(delivery, said)
            return
        pause = PAUSES[delivery.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 -- apart from others
        log.warning("delivery %d is tried again in %.0f s: %s", delivery.id, pause, said)
        self._store.postpone_delivery(delivery.id, said, pause, min(pause, others))

    def _dead(self, delivery: Delivery, said: str) -> None:
        log.error("delivery %d is given up: %s", delivery.id, said)
        self._store.end_delivery(delivery.id, said)

    def _within(self, target: int | None, send: Callable[[], None], stop: threading.Event) -> None:
        """Do it in at most TRY_SECONDS, whatever the other side does; raises what it raises."""
        caught: list[Exception] = []
        ended = threading.Event()

        def attempt() -> None:
            try:
                send()
            except Exception as exc:
                caught.append(exc)
            finally:
                ended.set()

        thread = threading.Thread(target=attempt, name="delivery", daemon=True)
        thread.start()
        waited = 0.0
        while not ended.wait(LOOK_SECONDS):
            waited += LOOK_SECONDS
            if stop.is_set():  # it is sent again at the next start
                raise _Stopped
            if waited >= TRY_SECONDS:
                self._tries[target] = thread
                raise TimeoutError(f"It took longer than {span(TRY_SECONDS)}.")
        if caught:
            raise caught[0]

    def _sender(self, delivery: Delivery) -> Callable[[], None]:
        """What sends it, with all that it needs. Raises Permanent, HostError, NotFound."""
        if delivery.webhook_id is not None:
            secret = read_secret(self._keys, self._store.webhook(delivery.webhook_id).key)
            return lambda: call(delivery, secret)
        if (settings := self._mail) is None:
            raise Permanent("No mail leaves this host: [mail] server is not set.")
        if not delivery.target:
            raise Permanent(f"{delivery.user} has no address any more.")
        content = json.loads(delivery.payload)
        text = f"{content['text']}\n" + (f"\n{self._url}/me\n" if self._url else "")
        return lambda: mail.send(settings, self._keys, delivery.target, content["subject"], text, token=delivery.token)


def call(delivery: Delivery, secret: str) -> None:
    """POST `delivery` to its webhook, signed with `secret`. Raises Permanent, or anything else for later."""
    check_target(delivery.target)
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"workspaces/{__version__}",
        "webhook-id": delivery.token,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(secret).sign(delivery.token, now, delivery.payload),
    }
    with requests.Session() as session:
        session.trust_env = False  # neither a proxy nor ~/.netrc of whoever started the worker
        answer = session.post(
            delivery.target,
            data=delivery.payload.encode(),
            headers=headers,
            timeout=CONNECT_SECONDS,
            allow_redirects=False,
            stream=True,  # what it says beyond the status is not read
        )
        answer.close()
    if answer.status_code == 410:
        raise Permanent("It answered 410: it wants no calls any more.")
    if not 200 <= answer.status_code < 300:
        raise HostError(f"It answered {answer.status_code}.")


def check_url(url: str) -> str:
    """Return an address that can be a webhook's, else raise InvalidInput."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and not parts.fragment
    except ValueError:
        good = False
    if not good or len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidInput(f"{printable(url, 80)!r} is no address to call.", "Write it as https://host.example/path.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("The address holds a name or password.", "Calls are signed; leave it out.")
    return url


def check_target(url: str) -> None:
    """Raises Permanent for an address that is never called. Blocks on the resolver; OSError when that fails."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for *_, address in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM):
        found = ipaddress.ip_address(str(address[0]).split("%")[0])
        plain = getattr(found, "ipv4_mapped", None) or found
        if plain.is_link_local or plain.is_multicast or plain.is_unspecified or plain in _METADATA:
            raise Permanent(f"{parts.hostname} is {plain}, which is never called.")


def make_secret(keys: Path) -> tuple[str, str]:
    """A new secret in a file of its own in `keys`, for its owner only: the file's key, and the secret.

    Raises HostError when it cannot be written.
    """
    key = secrets.token_hex(8)
    secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    path = _secret_file(keys, key)
    try:
        put(path, f"{secret}\n".encode("ascii"), 0o600)
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {exc.strerror}.") from exc
    return key, secret


def read_secret(keys: Path, key: str) -> str:
    """Raises HostError when it cannot be read, or others can read it."""
    path = _secret_file(keys, key)
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise HostError(f"Others may read {path}.", f"Run: chmod 600 {path}")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise HostError(f"{path} cannot be read.", "Remove the webhook and add it again.") from exc


def forget_secret(keys: Path, key: str) -> None:
    with suppress(FileNotFoundError):
        _secret_file(keys, key).unlink()


def _secret_file(keys: Path, key: str) -> Path:
    return keys / f"webhook-{key}"


def _sentence(exc: Exception) -> str:
    """What went wrong, for the list of deliveries; what the other side said is printable and short."""
    if isinstance(exc, WorkspacesError):
        return exc.message[:ERROR_MAX]
    if isinstance(exc, requests.exceptions.SSLError):
        return "Its certificate is not accepted, or it speaks no TLS."
    if isinstance(exc, requests.Timeout | TimeoutError):
        return (
            printable(str(exc), ERROR_MAX) if type(exc) is TimeoutError and exc.args else "It does not answer in time."
        )
    if isinstance(exc, requests.ConnectionError):
        return "It cannot be reached."
    return printable(f"{type(exc).__name__}: {exc}", ERROR_MAX)
