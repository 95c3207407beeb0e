"""What a finished login allows: judged from the store when a key or certificate is offered, kept when it is proven.

    key          the account's own, in `keys` ──────────────► its options
    certificate  signed by a trusted authority, for the account, now, from here ──► its options, its challenges
    web terminal certificate of the web application's own authority, from this host ──► a shell with a terminal
    password     (with a code, where the account has codes) ──► everything

Whose keys the key inside a certificate may be besides does not matter: a certificate is judged by its authority.
Judging blocks on the store; `now` is in seconds since the epoch.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, replace

from sshgate.environment import sftp_argv
from workspaces import accounts, keyoptions
from workspaces.errors import InvalidInput
from workspaces.guest.client import SpawnRequest
from workspaces.keyoptions import TERMINAL_KEY_ID, Options
from workspaces.names import printable
from workspaces.settings import is_loopback
from workspaces.store import Store

log = logging.getLogger(__name__)

SFTP_COMMAND = "/usr/lib/openssh/sftp-server"  # what Debian's sshd names as the original command of sftp
_FORCED_SFTP = "internal-sftp"
_KEY_ID_SHOWN = 100
_EVERYTHING = Options()


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of a user certificate whose signature is right; `line` is the key that it certifies."""

    authority: str  # fingerprint of the key that signed it
    key_id: str
    serial: int
    principals: tuple[str, ...]
    valid_after: float
    valid_before: float
    line: str
    options: Options


@dataclass(frozen=True, slots=True)
class Grant:
    """How somebody showed who they are, and what that lets them do."""

    way: str
    options: Options = _EVERYTHING
    fingerprint: str | None = None  # of a key in the store
    authority: str | None = None
    key_id: str | None = None
    serial: int | None = None
    challenges: frozenset[str] | None = None  # None: all
    visitor: str | None = None  # address of the browser, for a terminal of the web application


PASSWORD = Grant("password")
PASSWORD_AND_CODE = Grant("password and code")


def judge_key(store: Store, name: str, fingerprint: str, address: str, now: float) -> Grant | None:
    """What that key lets the account do, None when it does not let it in."""
    key, user = store.find_key(fingerprint), store.find_user(name)
    if key is None or user is None or user.disabled or key.user != user.name:
        return None
    try:
        options = keyoptions.parse(key.options)
    except InvalidInput as error:
        log.error("key %s of %s is not taken: %s", fingerprint, user.name, error.message)
        return None
    objection = options.objection(address, now)
    if objection:
        log.info("key %s of %s from %s refused: %s", fingerprint, user.name, address, objection)
        return None
    return Grant("key", options, fingerprint=fingerprint)


def judge_certificate(
    store: Store, name: str, certificate: Certificate, address: str, now: float, here: str = ""
) -> Grant | None:
    """What that certificate lets the account do, None when it does not let it in.

    `here` is the gateway's own address on this connection: the web application's authority counts from this host only.
    """
    trusted, user = store.authorities(certificate.authority), store.find_user(name)
    visitor = _visitor(store, certificate, address, here)
    if (not trusted and visitor is None) or user is None or user.disabled:
        return None
    objection = _objection(user.name, certificate, address, now)
    key_id = printable(certificate.key_id, _KEY_ID_SHOWN)
    if objection:
        log.info("certificate %r for %s from %s refused: %s", key_id, user.name, address, objection)
        return None
    slugs = {authority.challenge for authority in trusted} if visitor is None else {None}
    return Grant(
        "certificate" if visitor is None else "web terminal",
        certificate.options,
        visitor=visitor,
        authority=certificate.authority,
        key_id=key_id,
        serial=certificate.serial,
        challenges=None if None in slugs else frozenset(slug for slug in slugs if slug is not None),
    )


def _visitor(store: Store, certificate: Certificate, address: str, here: str) -> str | None:
    """Whose terminal in a browser it is, by the browser's address; None when it is none of the web application's."""
    if certificate.authority != store.terminal_authority() or not (is_loopback(address) or address == here):
        return None
    said = certificate.key_id.removeprefix(TERMINAL_KEY_ID)
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        return "?"


def _objection(name: str, certificate: Certificate, address: str, now: float) -> str | None:
    if name not in certificate.principals:  # also when it names nobody
        return "it is not for this account"
    if now < certificate.valid_after:
        return "it is not valid yet"
    if now >= certificate.valid_before:
        return "it has expired"
    try:
        accounts.parse_public_key(certificate.line)
    except InvalidInput as error:
        return error.message
    return certificate.options.objection(address, now)


def forced(command: str | None, asked: SpawnRequest) -> tuple[SpawnRequest, dict[bytes, bytes]]:
    """What runs instead of what was `asked` for, and what it is told of that, as sshd does for `command=`."""
    if command is None:
        return asked, {}
    request = replace(asked, command=command.encode(), argv=())
    if command == _FORCED_SFTP:
        request = replace(asked, command=None, argv=sftp_argv())
    original = SFTP_COMMAND.encode() if asked.argv else asked.command
    return request, {} if original is None else {b"SSH_ORIGINAL_COMMAND": original}
