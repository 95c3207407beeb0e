"""The container engine behind one small interface: `base` has it, `dockerd` and `memory` implement it.

    open_engine ─► [engine] host if set ─► the one chosen before ─► the host's own if it answers ─► a private one

The choice is written down at the first use: workspaces live in one engine, and must not seem lost because another
one was installed, or because theirs is down for a minute.
"""

from __future__ import annotations

from workspaces.engine.base import Engine
from workspaces.engine.diskerrors import disk_errors
from workspaces.errors import EngineError, EngineUnavailable, EngineUnfit, SettingsError
from workspaces.files import put
from workspaces.settings import DOCKER_SOCKET, Settings

__all__ = ["engine_chosen", "open_engine", "revive_engine"]

CHOICE = "choice"  # file in the engine's directory: system | private


def open_engine(settings: Settings, instance: str, start: bool = True) -> Engine:
    """The engine of this state directory; the private one is started when it is the one, unless `start` is False.

    Raises HostError when it cannot be started, NoSpace on a full disk, SettingsError for a host that cannot be used.
    Whether a configured one answers is not asked here.
    """
    from workspaces.engine.dockerd import DockerEngine  # importing docker takes long, and not every command needs it
    from workspaces.engine.private import PrivateEngine

    if settings.engine_host:
        if not settings.engine_host.startswith("unix://"):
            raise SettingsError(
                f"[engine] host must be a unix:// socket of this machine, not {settings.engine_host}.",
                "The gateway reaches containers through this machine's file system.",
            )
        return DockerEngine(settings.engine_host, settings.guest_dir, instance)
    private = PrivateEngine(settings.engine_dir)
    file = settings.engine_dir / CHOICE
    chosen = file.read_text(encoding="ascii").strip() if file.exists() else ""
    system = DockerEngine(DOCKER_SOCKET, settings.guest_dir, instance)
    if not chosen:
        chosen = "private" if private.exists() or not _answers(system) else "system"
        if start:
            with disk_errors(f"The choice of an engine cannot be written in {settings.engine_dir}"):
                settings.engine_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                put(file, f"{chosen}\n".encode(), 0o600, over=True)
    if chosen == "system":
        return system
    system.close()
    if start:
        private.start()
    return DockerEngine(private.host, settings.guest_dir, instance)


def engine_chosen(settings: Settings) -> bool:
    """Whether it is settled which engine this state directory uses."""
    return bool(settings.engine_host) or (settings.engine_dir / CHOICE).exists()


def revive_engine(settings: Settings) -> None:
    """Start the private engine again if it is the one and was killed. Raises HostError when it cannot be started."""
    from workspaces.engine.private import PrivateEngine

    file = settings.engine_dir / CHOICE
    if settings.engine_host or not file.exists() or file.read_text(encoding="ascii").strip() != "private":
        return
    private = PrivateEngine(settings.engine_dir)
    if private.killed():
        private.start()


def _answers(engine: Engine) -> bool:
    try:
        engine.info()
    except (EngineUnavailable, EngineUnfit):
        return False
    except EngineError:
        return True  # it is there, and has something to say that the next call will show
    return True
