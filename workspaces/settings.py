"""`workspaces.toml` and the state directory: one table of settings, read only when asked.

Unknown names and wrong types stop the start with a sentence. Secrets are never settings: keys are made in
the state directory by `workspaces init`.

State directory (`--home`, `WORKSPACES_HOME`, else /var/lib/workspaces):
    workspaces.toml     settings, optional
    workspaces.db       the store
    keys/               ssh host key, web session key, signing key of versions, the registry's password (0600)
    guest/              what every container sees read-only at /dev/workspaces/guest
    archive/            committed images, unless [archive] url says elsewhere
    engine/             the private engine: data, sockets, pid files, logs
    locks/              one lock file per workspace, one for the worker, one per live gateway worker
    log/                logs of the processes under `serve`
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from workspaces.errors import SettingsError

DEFAULT_HOME = "/var/lib/workspaces"
PROCESSES_MAX = 256
DOCKER_SOCKET = "unix:///var/run/docker.sock"

# section, name, default, help
TABLE: tuple[tuple[str, str, str | int, str], ...] = (
    ("gateway", "listen", "0.0.0.0:2222", "address and port for ssh"),
    ("gateway", "host", "", "host name that participants type, shown in the ssh line; empty: this host's name"),
    ("gateway", "processes", 0, "worker processes of the gateway; 0: one for each core"),
    ("web", "listen", "127.0.0.1:8080", "address and port for the web application"),
    ("web", "url", "", "public https:// address when a proxy stands in front; makes cookies Secure"),
    ("engine", "host", "", f"container engine; empty: {DOCKER_SOCKET} if it answers, else a private one"),
    ("registry", "url", "", "https://host/prefix of a registry that archived versions are pushed to; empty: none"),
    ("archive", "url", "", "file:///… where committed images are archived; empty: archive/ in the state directory"),
)

# A repository's name in the OCI distribution specification, and room in its 255 characters for challenge/workspace.
_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_PREFIX_MAX = 128


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one state directory. Values are those of TABLE's rows, checked."""

    home: Path
    gateway_listen: tuple[str, int]
    gateway_host: str
    web_listen: tuple[str, int]
    web_url: str
    engine_host: str
    archive_dir: Path
    gateway_processes: int = 0
    registry_url: str = ""

    @property
    def database(self) -> Path:
        return self.home / "workspaces.db"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def guest_dir(self) -> Path:
        return self.home / "guest"

    @property
    def engine_dir(self) -> Path:
        return self.home / "engine"

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def logs(self) -> Path:
        return self.home / "log"


def home_path(option: str | None = None) -> Path:
    """The state directory: the option, else WORKSPACES_HOME, else the default; absolute."""
    return Path(option or os.environ.get("WORKSPACES_HOME") or DEFAULT_HOME).absolute()


def is_state_directory(home: Path) -> bool:
    """Whether `workspaces init` made `home`. Raises SettingsError when this user may not look into it."""
    try:
        return (home / "workspaces.db").exists()
    except OSError as exc:
        raise SettingsError(f"{home} cannot be read: {exc.strerror}.", "Run this as root.") from exc


def load(home: Path) -> Settings:
    """Read `home/workspaces.toml` (absent: all defaults). Raises SettingsError with file, name and rule."""
    path = home / "workspaces.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} is not valid TOML: {exc}.") from exc
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}.") from exc
    return _checked(home, path, raw)


def _checked(home: Path, path: Path, raw: dict[str, Any]) -> Settings:
    known = {(section, name): default for section, name, default, _ in TABLE}
    values: dict[tuple[str, str], Any] = dict(known)
    for section, entries in raw.items():
        if not isinstance(entries, dict):
            raise SettingsError(f"{path}: {section!r} must be a table, written [{section}].")
        for name, value in entries.items():
            if (section, name) not in known:
                choices = ", ".join(sorted(f"[{s}] {n}" for s, n in known))
                raise SettingsError(f"{path}: [{section}] {name} is not a setting.", f"The settings are {choices}.")
            number = isinstance(known[section, name], int)
            if number and not (type(value) is int and 0 <= value <= PROCESSES_MAX):
                raise SettingsError(f"{path}: [{section}] {name} must be 0 to {PROCESSES_MAX}, not {value!r}.")
            if not number and not isinstance(value, str):
                raise SettingsError(f"{path}: [{section}] {name} must be text in quotes, not {value!r}.")
            values[section, name] = value
    return _settings(home, path, values)


def _settings(home: Path, path: Path, values: dict[tuple[str, str], Any]) -> Settings:
    web_url = values["web", "url"].rstrip("/")
    if web_url and urlsplit(web_url).scheme not in ("http", "https"):
        raise SettingsError(f"{path}: [web] url must start with https:// or http://.")
    archive = urlsplit(values["archive", "url"] or (home / "archive").as_uri())
    if archive.scheme != "file" or archive.netloc or not archive.path.startswith("/") or archive.query:
        raise SettingsError(f"{path}: [archive] url must be file:///an/absolute/path.")
    return Settings(
        home=home,
        gateway_listen=_address(path, "[gateway] listen", values["gateway", "listen"]),
        gateway_host=values["gateway", "host"],
        gateway_processes=values["gateway", "processes"],
        web_listen=_address(path, "[web] listen", values["web", "listen"]),
        web_url=web_url,
        engine_host=values["engine", "host"],
        archive_dir=Path(unquote(archive.path)),
        registry_url=_registry(path, values["registry", "url"]),
    )


def is_loopback(host: str | None) -> bool:
    """Whether a host's name or address is this host's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _registry(path: Path, url: str) -> str:
    """The registry's address, checked: a repository is named `host/prefix/challenge/workspace`."""
    if not url:
        return ""
    name = f"{path}: [registry] url"
    try:
        address = urlsplit(url)
        port_is_right = address.port is None or address.port > 0
    except ValueError:
        raise SettingsError(f"{name} is no address: {url!r}.") from None
    if address.scheme not in ("https", "http") or not address.hostname or not port_is_right or address.query:
        raise SettingsError(f"{name} must be https://host/prefix, not {url!r}.")
    if address.scheme == "http" and not is_loopback(address.hostname):
        raise SettingsError(f"{name} may be http:// for a registry on this host only; use https://.")
    if address.username is not None or address.fragment:
        raise SettingsError(f"{name} holds no password.", "User and password belong into keys/registry.json.")
    prefix = address.path.strip("/")
    if len(prefix) > _PREFIX_MAX or (prefix and not _PREFIX.fullmatch(prefix)):
        raise SettingsError(f"{name}: no registry takes the prefix {prefix!r}.", "Use lower case, e.g. team/als.")
    return f"{address.scheme}://{address.netloc}/{prefix}".rstrip("/")


def _address(path: Path, name: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"{path}: {name} must be ADDRESS:PORT, e.g. 0.0.0.0:2222, not {text!r}.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty address means every one
