"""What makes all tests quicker and none weaker: what each of them would do again is done once, or at less cost."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from argon2 import PasswordHasher

from workspaces import accounts
from workspaces.store import Store, migrations
from workspaces.store.connection import Connections

CheapHasher = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
_STEPS = migrations.STEPS
_MIGRATE = Connections._migrate


@pytest.fixture(scope="session", autouse=True)
def copied_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new database is a copy of one that the migrations made: making the tables takes a hundred times as long.

    Whoever tests the migrations themselves gives them other steps, or asks for `migrated`.
    """
    path = tmp_path_factory.mktemp("template") / "workspaces.db"
    with closing(Store.open(path)) as store:
        instance = store.instance.encode()
    template = path.read_bytes()
    assert template.count(instance) == 1

    def copy(self: Connections) -> None:
        if migrations.STEPS is _STEPS and self.path.stat().st_size == 0:
            self.path.write_bytes(template.replace(instance, secrets.token_hex(6).encode()))
        _MIGRATE(self)  # which looks whether all steps were applied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connections, "_migrate", copy)
        yield


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases are made by the migrations in this test."""
    monkeypatch.setattr(Connections, "_migrate", _MIGRATE)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Hashing a password costs next to nothing: what is checked is who may sign in, not how hard a hash is to break."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "PasswordHasher", CheapHasher)
        yield


@pytest.fixture
def dear_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing costs in this test what it costs in earnest."""
    monkeypatch.setattr(accounts, "PasswordHasher", PasswordHasher)
