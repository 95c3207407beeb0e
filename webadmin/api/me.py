"""Operations on oneself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from webadmin.api import paging
from webadmin.api.auth import Caller
from webadmin.api.inputs import Input
from webadmin.api.models import Key, Me, NewsItem, Part, Token, User, Workspace
from webadmin.api.operations import delete, get
from workspaces.rights import CARRIED


class NewsQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100)] = 50


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


@get("/me/workspaces")
def list_my_workspaces(caller: Caller) -> Part[Workspace]:
    """List the workspaces that you may log in to."""
    return paging.of(Workspace, caller.store.workspaces_of(caller.name))


@get("/me/keys")
def list_my_keys(caller: Caller) -> Part[Key]:
    """List your SSH keys."""
    return paging.of(Key, caller.store.keys(caller.name))


@get("/me/news")
def list_my_news(caller: Caller, query: NewsQuery) -> Part[NewsItem]:
    """List what you were told, the newest first."""
    return paging.of(NewsItem, caller.store.news(caller.name, limit=query.limit))
