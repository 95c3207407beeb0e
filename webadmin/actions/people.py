"""What is done to accounts: one's own keys and tokens; roles and invitations of others. Pages and API share it."""

from __future__ import annotations

from flask import request, url_for

from webadmin.context import parts
from webadmin.i18n import _
from workspaces import accounts
from workspaces.errors import Conflict, NotFound
from workspaces.model import Invitation, Key, Role
from workspaces.store import Store


def add_key(store: Store, name: str, line: str, *, actor: str) -> Key:
    """Let `name` log in with a public key, options in front. Raises InvalidInput, Conflict for a key in use."""
    return store.add_key(name, *accounts.parse_key_line(line.strip()), actor=actor)


def remove_key(store: Store, name: str, key_id: int, *, actor: str) -> None:
    """Raises NotFound, also for somebody else's."""
    key = next((k for k in store.keys(name) if k.id == key_id), None)
    if key is None:
        raise NotFound(_("You have no such key."))
    store.remove_key(name, key.fingerprint, actor=actor)


def remove_token(store: Store, name: str, token_id: int, *, actor: str) -> None:
    """Raises NotFound, also for somebody else's."""
    if token_id not in {token.id for token in store.tokens(name)}:
        raise NotFound(_("You have no such token."))
    store.remove_token(token_id, actor=actor, user=name)


def give_role(store: Store, name: str, role: Role, *, actor: str, challenge: str = "") -> None:
    """For the whole host, or in `challenge`. Raises NotFound; Conflict for one's own, or the last administrator's."""
    found = store.user(name)
    if challenge:
        store.set_challenge_role(found.name, challenge, role, actor=actor)
    elif found.name == actor:
        raise Conflict(_("You cannot change your own role."), _("Another administrator can."))
    else:
        store.set_role(found.name, role, actor=actor)


def set_disabled(store: Store, name: str, disabled: bool, *, actor: str) -> None:
    """Raises NotFound; Conflict for one's own account, or the last administrator's."""
    if disabled and name == actor:
        raise Conflict(_("You cannot disable your own account."), _("Another administrator can."))
    store.set_disabled(name, disabled, actor=actor)


def invite(store: Store, name: str, *, actor: str) -> tuple[str, Invitation]:
    """The address with which `name` sets a password, which is kept nowhere, and until when. NotFound, Conflict."""
    token = accounts.invite(store, name, actor=actor)
    made = store.invitation_of(name)
    if made is None:
        raise Conflict(_("The invitation is not good any more."))
    base = parts().settings.web_url or request.host_url.rstrip("/")
    return f"{base}{url_for('invite.page', token=token)}", made
