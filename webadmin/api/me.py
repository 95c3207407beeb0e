"""Operations on oneself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from webadmin.actions import people
from webadmin.actions.sessions import own
from webadmin.api import paging
from webadmin.api.auth import NOTHING, Caller
from webadmin.api.inputs import Input, Listed
from webadmin.api.models import Key, Me, NewsItem, Part, Session, Token, User, Workspace
from webadmin.api.operations import Id, delete, get, post
from webadmin.api.peoplemodels import Announcement, Door, Ended, SignIn
from webadmin.context import door, host_key
from workspaces import accounts
from workspaces.errors import NotFound
from workspaces.rights import CARRIED
from workspaces.scopes import Scope


class NewsQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class NewKey(Input):
    key: Annotated[str, StringConstraints(max_length=accounts.KEY_LINE_MAX)]
    """Its line, as in a `.pub` file; options may stand in front."""


class ReadNews(Input):
    up_to: Id
    """The newest that was read, which all before it were, too."""


@get("/me", None)
def show_me(caller: Caller) -> Me:
    """Show who calls, and what the token is good for."""
    return Me(
        user=User.model_validate(caller.user),
        token=Token.model_validate(caller.token),
        rights=sorted(CARRIED[caller.rights.role]),
        challenges=dict(caller.rights.challenges),
    )


@delete("/me/token", None)
def end_token(caller: Caller) -> None:
    """Remove the token that this request shows."""
    caller.store.remove_token(caller.token.id, actor=caller.name, user=caller.name)


@get("/me/tokens")
def list_my_tokens(caller: Caller) -> Part[Token]:
    """List your tokens, without their secrets."""
    return paging.of(Token, caller.store.tokens(caller.name))


@delete("/me/tokens/{token_id}", Scope.ACCOUNT)
def remove_my_token(caller: Caller, token_id: Id) -> None:
    """Remove one of your tokens. It works no more."""
    people.remove_token(caller.store, caller.name, token_id, actor=caller.name)


@get("/me/workspaces")
def list_my_workspaces(caller: Caller) -> Part[Workspace]:
    """List the workspaces that you may log in to."""
    return paging.of(Workspace, caller.store.workspaces_of(caller.name))


@get("/me/workspaces/{workspace_id}/door")
def show_door(caller: Caller, workspace_id: Id) -> Door:
    """Show how you get into a workspace of yours by ssh."""
    mine = caller.store.workspaces_of(caller.name)
    ref = next((workspace.ref for workspace in mine if workspace.id == workspace_id), None)
    if ref is None:
        raise NotFound(NOTHING)
    found = door(caller.name, ref, only=len(mine) == 1)
    return Door(line=found.line, alias=found.alias, config=found.config, host_key=host_key())


@get("/me/sessions")
def list_my_sessions(caller: Caller, query: Listed) -> Part[Session]:
    """List your own SSH sessions, the latest first; `q=on:yes` for those that go on."""
    q = f"{own(caller.user)} {query.q}"
    walked = caller.store.walk_sessions(q.strip(), after=query.after, size=query.limit, newest=True)
    return paging.of(Session, walked.items, walked.next)


@get("/me/keys")
def list_my_keys(caller: Caller) -> Part[Key]:
    """List your SSH keys."""
    return paging.of(Key, caller.store.keys(caller.name))


@post("/me/keys", Scope.ACCOUNT, 201)
def add_my_key(caller: Caller, body: NewKey) -> Key:
    """Log in with another SSH key, too."""
    return Key.model_validate(people.add_key(caller.store, caller.name, body.key, actor=caller.name))


@delete("/me/keys/{key_id}", Scope.ACCOUNT)
def remove_my_key(caller: Caller, key_id: Id) -> None:
    """Log in with a key no more. Sessions that it opened go on."""
    people.remove_key(caller.store, caller.name, key_id, actor=caller.name)


@get("/me/sign-ins")
def list_my_sign_ins(caller: Caller) -> Part[SignIn]:
    """List the browsers that are signed in to the pages."""
    return paging.of(SignIn, caller.store.sign_ins(caller.name))


@delete("/me/sign-ins", Scope.ACCOUNT, 200)
def end_my_sign_ins(caller: Caller) -> Ended:
    """Sign out of the pages, in all browsers."""
    return Ended(count=caller.store.end_sign_ins(caller.name, actor=caller.name))


@delete("/me/sign-ins/{sign_in_id}", Scope.ACCOUNT)
def end_my_sign_in(caller: Caller, sign_in_id: Id) -> None:
    """Sign out of the pages in one browser."""
    caller.store.end_sign_in(caller.name, sign_in_id, actor=caller.name)


@get("/me/news")
def list_my_news(caller: Caller, query: NewsQuery) -> Part[NewsItem]:
    """List what you were told, the newest first."""
    return paging.of(NewsItem, caller.store.news(caller.name, limit=query.limit))


@post("/me/news/read", Scope.ACCOUNT, 204)
def read_my_news(caller: Caller, body: ReadNews) -> None:
    """Say that you have read your news."""
    caller.store.read_news(caller.name, body.up_to)


@get("/me/announcements")
def list_my_announcements(caller: Caller) -> Part[Announcement]:
    """List what is announced to you now, the most urgent first, without what you have put away."""
    return paging.of(Announcement, caller.store.announcements_for(caller.name))


@post("/me/announcements/{announcement_id}/dismiss", Scope.ACCOUNT, 204)
def dismiss_announcement(caller: Caller, announcement_id: Id) -> None:
    """Put an announcement away, for yourself."""
    caller.store.dismiss_announcement(announcement_id, caller.name)
