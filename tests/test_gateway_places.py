"""Which workspace a login means."""

from __future__ import annotations

import pytest

from sshgate.places import choose
from workspaces.errors import Conflict, NotFound
from workspaces.model import Workspace, WorkspaceState


def workspace(id_: int, challenge: str, name: str) -> Workspace:
    return Workspace(
        id=id_,
        challenge=challenge,
        name=name,
        members=("alice",),
        image=None,
        parent_id=None,
        state=WorkspaceState.ABSENT,
        state_detail="",
        state_at=0,
        last_login_at=None,
        created_at=0,
    )


ALS, TEAM, MINE, ODD = (
    workspace(1, "als", "alice"),
    workspace(2, "als", "team"),
    workspace(3, "brain", "alice"),
    workspace(4, "cell", "brain"),
)


@pytest.mark.parametrize(
    ("have", "wanted", "meant"),
    [
        ([ALS], None, ALS),
        ([ALS], "alice", ALS),
        ([ALS], "als", ALS),
        ([ALS], "als/alice", ALS),
        ([ALS, TEAM], "team", TEAM),
        ([ALS, MINE], "brain", MINE),
        ([ALS, MINE], "als", ALS),
        ([ALS, TEAM, MINE], "als/alice", ALS),
        ([ALS, TEAM, MINE], "brain/alice", MINE),
    ],
)
def test_the_one_that_is_meant(have: list[Workspace], wanted: str | None, meant: Workspace) -> None:
    assert choose("alice", have, wanted) == meant


@pytest.mark.parametrize(
    ("have", "wanted"),
    [([ALS, TEAM], None), ([ALS, TEAM], "als"), ([ALS, MINE], "alice"), ([MINE, ODD], "brain")],
)
def test_several_are_possible(have: list[Workspace], wanted: str | None) -> None:
    with pytest.raises(Conflict) as caught:
        choose("alice", have, wanted)
    for each in have:
        assert f"ssh alice+{each.ref}@" in caught.value.hint


def test_none_at_all() -> None:
    with pytest.raises(NotFound, match="no workspace"):
        choose("alice", [], None)


@pytest.mark.parametrize(
    "wanted", ["", "bob", "als/bob", "als/", "/alice", "../als", "als/alice/", "\x1b[31m", "x" * 1000]
)
def test_no_such_one(wanted: str) -> None:
    with pytest.raises(NotFound) as caught:
        choose("alice", [ALS], wanted)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "ssh alice+als/alice@" in caught.value.hint
