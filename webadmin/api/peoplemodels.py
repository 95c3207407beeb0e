"""What is answered about people: how they sign in, lists of them, and what they are told."""

from __future__ import annotations

from webadmin.api.models import Key, Moment, Out, User
from workspaces.model import Role, Severity


class Door(Out):
    """How one person gets into one workspace."""

    line: str
    """The command to type."""
    alias: str
    config: str
    """For ~/.ssh/config, so that `ssh ALIAS` does."""
    host_key: str | None
    """The fingerprint that ssh shows the first time; null before there is one."""


class Identity(Out):
    """An account at the OpenID provider that signs somebody in."""

    id: int
    issuer: str
    shown: str
    """What it is called there."""
    linked_at: Moment
    last_used_at: Moment | None


class Invitation(Out):
    """What lets somebody set a password, without the secret."""

    user: str
    invited_by: str
    invited_at: Moment
    expires_at: Moment


class Invited(Invitation):
    """One that was made just now."""

    address: str
    """Who opens it sets the password, once. It is kept nowhere."""


class SignIn(Out):
    """A browser that is signed in to the pages."""

    id: int
    via: str
    """password, passkey, oidc or invitation."""
    address: str
    browser: str
    created_at: Moment
    seen_at: Moment
    proven_at: Moment
    """When the person last proved who it is; 1970 if never in this sign-in."""


class Ended(Out):
    count: int
    """How many those were."""


class UserDetail(User):
    """The same with what belongs to the account."""

    challenges: dict[str, Role]
    """Roles in single challenges."""
    workspaces: list[str]
    keys: list[Key]
    passkeys: int
    identities: list[Identity]
    sign_ins: list[SignIn]
    invitation: Invitation | None
    """That is still good."""


class Announcement(Out):
    """A text for everybody, or for those of one challenge."""

    id: int
    text: str
    severity: Severity
    challenge: str | None
    """null: for everybody."""
    from_at: Moment
    until_at: Moment | None
    """null: until it is ended."""
    created_by: str
    created_at: Moment


class RosterStep(Out):
    """What a row of a list of people does."""

    line: int
    """On which it begins; the header is line 1."""
    name: str
    workspace: str
    """`challenge/name`, or nothing."""
    does: list[str]
    """Of account, key, email, workspace, member; nothing when all is there."""


class RosterProblem(Out):
    line: int
    column: str
    """Empty: the whole line."""
    message: str


class Roster(Out):
    """What a list of people does, or did."""

    steps: list[RosterStep]
    problems: list[RosterProblem]
    """With any, nothing is done; at most a hundred."""
