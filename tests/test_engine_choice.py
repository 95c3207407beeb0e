"""Which engine a state directory uses: configured, chosen before, the host's own, or a private one."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspaces.engine import (
    CHOICE,
    connection,
    dockerd,
    open_engine,
    private,
    revive_engine,
)
from workspaces.engine.base import EngineInfo
from workspaces.errors import (
    EngineUnavailable,
    SettingsError,
)
from workspaces.settings import load


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that answer; `start` of a private engine adds its own."""
    urls: list[str] = []

    def info(self: dockerd.DockerEngine) -> EngineInfo:
        if self.host not in urls:
            raise EngineUnavailable("nothing there")
        return EngineInfo("Docker", "1", "runc 1", "overlay2", True, "/data")

    def start(self: private.PrivateEngine) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "daemon.json").write_text("{}", encoding="ascii")
        urls.append(self.host)

    monkeypatch.setattr(connection.DockerConnection, "info", info)
    monkeypatch.setattr(private.PrivateEngine, "start", start)
    return urls


def opened(home: Path, start: bool = True) -> str:
    engine = open_engine(load(home), "0" * 12, start)
    assert isinstance(engine, dockerd.DockerEngine)
    return engine.host


def test_the_hosts_engine_is_taken_and_kept(answering: list[str], tmp_path: Path) -> None:
    answering.append("unix:///var/run/docker.sock")
    assert opened(tmp_path) == "unix:///var/run/docker.sock"
    answering.clear()  # down for a minute: no empty private one takes its place
    assert opened(tmp_path) == "unix:///var/run/docker.sock"
    assert answering == []


def test_a_private_engine_is_started_and_kept(answering: list[str], tmp_path: Path) -> None:
    host = private.PrivateEngine(tmp_path / "engine").host
    assert opened(tmp_path, start=False) == host
    assert answering == []
    assert not (tmp_path / "engine" / CHOICE).exists()
    assert opened(tmp_path) == host
    assert answering == [host]
    answering.append("unix:///var/run/docker.sock")
    assert opened(tmp_path) == host


def test_a_private_engine_that_was_killed_is_started_again(
    answering: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive_engine(load(tmp_path))  # nothing is chosen yet
    host = opened(tmp_path)
    answering.clear()
    left = [False]
    monkeypatch.setattr(private.PrivateEngine, "killed", lambda self: left[0])
    revive_engine(load(tmp_path))  # stopped by a person
    assert answering == []
    left[0] = True
    revive_engine(load(tmp_path))
    assert answering == [host]
    (tmp_path / "workspaces.toml").write_text('[engine]\nhost = "unix:///x.sock"\n', encoding="ascii")
    revive_engine(load(tmp_path))
    assert answering == [host]


def test_a_configured_engine_is_taken(answering: list[str], tmp_path: Path) -> None:
    (tmp_path / "workspaces.toml").write_text('[engine]\nhost = "unix:///x.sock"\n', encoding="ascii")
    assert opened(tmp_path) == "unix:///x.sock"
    (tmp_path / "workspaces.toml").write_text('[engine]\nhost = "tcp://far:2375"\n', encoding="ascii")
    with pytest.raises(SettingsError, match="unix://"):
        opened(tmp_path)
