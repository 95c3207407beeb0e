"""`workspaces.toml` and the state directory: one table of settings, read only when asked.

Unknown names and wrong types stop the start with a sentence. Secrets are never settings: keys are made in
the state directory by `workspaces init`.

State directory (`--home`, `WORKSPACES_HOME`, else /var/lib/workspaces):
    workspaces.toml     settings, optional
    workspaces.db       the store
    keys/               host keys, session key, signing key, what opens the archive, passwords, webhooks' secrets (0600)
    guest/              what every container sees read-only at /dev/workspaces/guest
    archive/            committed images, unless [archive] url says elsewhere
    engine/             the private engine: data, sockets, pid files, logs
    locks/              one lock file per workspace, one for the worker, one per live gateway worker
    recordings/         what terminals showed, where a challenge has them recorded; one file for each session
    layers/             what is in the layers of versions, kept so that each is read once; may be deleted
    log/                logs of the processes under `serve`
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from workspaces.errors import InvalidInput, SettingsError
from workspaces.jobkinds import KINDS
from workspaces.model import JobKind
from workspaces.names import check_address, parse_size

DEFAULT_HOME = "/var/lib/workspaces"
NUMBER_MAX = {"days": 3650}  # of settings that are numbers; of others 256
RECORDING_MIN = 1 << 20
FACTORS_OF = ("none", "staff", "all")
CLAIMS = ("", "preferred_username", "email")
OIDC_SECRET_FILE = "oidc-secret"  # noqa: S105 -- a file's name
PORTS = {"https": 443, "http": 80}
SECURITIES = ("starttls", "tls", "none")
DOCKER_SOCKET = "unix:///var/run/docker.sock"

# section, name, default, help
TABLE: tuple[tuple[str, str, str | int | tuple[str, ...], str], ...] = (
    ("gateway", "listen", "0.0.0.0:2222", "address and port for ssh"),
    ("gateway", "host", "", "host name that participants type, shown in the ssh line; empty: this host's name"),
    ("gateway", "processes", 0, "worker processes of the gateway; 0: one for each core"),
    ("web", "listen", "127.0.0.1:8080", "address and port for the web application"),
    ("web", "url", "", "public https:// address when a proxy stands in front; makes cookies Secure"),
    ("engine", "host", "", f"container engine; empty: {DOCKER_SOCKET} if it answers, else a private one"),
    ("archive", "url", "", "file:///… or s3://bucket/prefix: the archive; empty: archive/ in the state directory"),
    ("archive", "endpoint", "", "address of the S3 service; empty: Amazon's of the region"),
    ("archive", "region", "", "region of the S3 service; empty: as boto3 finds it"),
    ("archive", "addressing", "auto", "path: the bucket is named in the path, as own S3 services want it; else auto"),
    ("archive", "recipients", (), "age public keys that everything archived is encrypted for; none: not encrypted"),
    ("worker", "jobs", 4, "jobs at once; one place is kept for starts and stops"),
    *(
        ("worker", kind.value, rule.at_once, "at once of this kind; 0: no bound of its own")
        for kind, rule in KINDS.items()
    ),
    ("access", "idle", 12, "hours without a click after which a participant is signed out of the pages"),
    ("access", "longest", 168, "hours after which a participant signs in again in any case"),
    ("access", "staff_idle", 2, "the same for reviewers and administrators"),
    ("access", "staff_longest", 12, "the same for reviewers and administrators"),
    (
        "access",
        "second_factor",
        "none",
        "who must have one-time codes or a passkey to use the pages: none, staff or all",
    ),
    ("oidc", "issuer", "", "https:// address of an OpenID provider that signs people in; empty: none"),
    ("oidc", "client_id", "", "this host's name there; its secret is the one line of keys/oidc-secret"),
    ("oidc", "name", "", "what people call the provider; empty: its host name"),
    ("oidc", "scope", "openid email profile", "what the provider is asked for"),
    (
        "oidc",
        "claim",
        "",
        "preferred_username or email: opens the account that has it; empty: accounts are linked by hand",
    ),
    ("oidc", "create", "", "challenge in which an account is made for who has none; empty: none are made"),
    ("mail", "server", "", "HOST:PORT of the mail server that takes news for people; empty: none are mailed"),
    ("mail", "security", "starttls", "starttls, tls, or none for a relay on this host"),
    ("mail", "user", "", "account there; its password is the one line of keys/smtp-password"),
    ("mail", "from", "", "address of the sender"),
    ("recordings", "days", 30, "for which recordings of terminals are kept; 0: no bound of its own"),
    ("recordings", "size", "64m", "bytes of one recording; what comes after is left out"),
    ("recordings", "total", "20g", "bytes of all; who has most of them loses the oldest first"),
    ("registry", "url", "", "https://host/prefix of a registry that archived versions are pushed to; empty: none"),
)

# A repository's name in the OCI distribution specification, and room in its 255 characters for challenge/workspace.
_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_PREFIX_MAX = 128


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket and a prefix in it, without slashes at its ends; empty texts mean boto3's defaults."""

    name: str
    prefix: str
    endpoint: str
    region: str
    path_style: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """How mail leaves this host; `security` is one of SECURITIES."""

    host: str
    port: int
    security: str
    user: str
    sender: str


@dataclass(frozen=True, slots=True)
class Access:
    """How long a sign-in to the pages lasts, in seconds, without a click and at most; who needs a second factor."""

    idle: float = 12 * 3600.0
    longest: float = 168 * 3600.0
    staff_idle: float = 2 * 3600.0
    staff_longest: float = 12 * 3600.0
    second_factor: str = "none"  # or staff, or all


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID provider that signs people in; `claim` and `create` say for whom that is not linked by hand."""

    issuer: str
    client_id: str
    name: str
    scope: str = "openid email profile"
    claim: str = ""
    create: str = ""

    def secret(self, keys: Path) -> str:
        """What this host proves itself with to the provider. Raises SettingsError when it cannot be read."""
        path = keys / OIDC_SECRET_FILE
        try:
            if path.stat().st_mode & 0o077:
                raise SettingsError(f"Others may read {path}.", f"Run: chmod 600 {path}")
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"{path} cannot be read.", "Write the client's secret into it, mode 600.") from exc


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one state directory. Values are those of TABLE's rows, checked."""

    home: Path
    gateway_listen: tuple[str, int]
    gateway_host: str
    web_listen: tuple[str, int]
    web_url: str
    engine_host: str
    archive_dir: Path  # of an archive on S3: what this host keeps of it, unfinished files and a lock
    gateway_processes: int = 0
    archive_bucket: Bucket | None = None
    archive_recipients: tuple[str, ...] = ()
    worker_jobs: int = 4
    worker_at_once: Mapping[JobKind, int] = field(default_factory=dict)
    mail: Mail | None = None
    registry_url: str = ""
    access: Access = Access()
    recording_days: int = 30
    recording_size: int = 64 << 20
    recording_total: int = 20 << 30
    oidc: Oidc | None = None

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
    def layers(self) -> Path:
        return self.home / "layers"

    @property
    def recordings(self) -> Path:
        return self.home / "recordings"

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
            if isinstance(known[section, name], tuple):
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    raise SettingsError(f'{path}: [{section}] {name} must be a list such as ["…"], not {value!r}.')
                values[section, name] = tuple(value)
                continue
            number = isinstance(known[section, name], int)
            most = NUMBER_MAX.get(name, 256)
            if number and not (type(value) is int and 0 <= value <= most):
                raise SettingsError(f"{path}: [{section}] {name} must be 0 to {most}, not {value!r}.")
            if not number and not isinstance(value, str):
                raise SettingsError(f"{path}: [{section}] {name} must be text in quotes, not {value!r}.")
            values[section, name] = value
    return _settings(home, path, values)


def _web_url(path: Path, text: str) -> str:
    """The address as browsers write it in Origin: small letters, no port that goes without saying."""
    if not text:
        return ""
    with suppress(ValueError):
        url = urlsplit(text)
        if url.scheme in PORTS and url.hostname:
            host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
            port = "" if url.port in (None, PORTS[url.scheme]) else f":{url.port}"
            return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"
    raise SettingsError(f"{path}: [web] url must start with https:// or http:// and a host's name.")


def _settings(home: Path, path: Path, values: dict[tuple[str, str], Any]) -> Settings:
    archive = urlsplit(values["archive", "url"] or (home / "archive").as_uri())
    bucket = _bucket(path, values) if archive.scheme == "s3" else None
    if not bucket and (archive.scheme != "file" or archive.netloc or archive.path[:1] != "/" or archive.query):
        raise SettingsError(f"{path}: [archive] url must be file:///an/absolute/path or s3://bucket/prefix.")
    return Settings(
        home=home,
        gateway_listen=_address(path, "[gateway] listen", values["gateway", "listen"]),
        gateway_host=values["gateway", "host"],
        gateway_processes=values["gateway", "processes"],
        worker_jobs=values["worker", "jobs"] or 1,
        worker_at_once={kind: values["worker", kind.value] for kind in KINDS},
        mail=_mail(path, values),
        web_listen=_address(path, "[web] listen", values["web", "listen"]),
        web_url=_web_url(path, values["web", "url"]),
        engine_host=values["engine", "host"],
        archive_dir=home / "archive" if bucket else Path(unquote(archive.path)),
        archive_bucket=bucket,
        archive_recipients=values["archive", "recipients"],
        registry_url=_registry(path, values["registry", "url"]),
        access=_access(path, values),
        recording_days=values["recordings", "days"],
        recording_size=_size(path, "size", values),
        recording_total=_size(path, "total", values),
        oidc=_oidc(path, values),
    )


def _size(path: Path, name: str, values: dict[tuple[str, str], Any]) -> int:
    try:
        size = parse_size(values["recordings", name])
    except InvalidInput as exc:
        raise SettingsError(f"{path}: [recordings] {name}: {exc.message}", exc.hint) from exc
    if size < RECORDING_MIN:
        raise SettingsError(f"{path}: [recordings] {name} must be 1m or more.")
    return size


def _bucket(path: Path, values: dict[tuple[str, str], Any]) -> Bucket:
    url = values["archive", "url"]
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/-]*))?", url)
    if not found:
        raise SettingsError(f"{path}: [archive] url must be s3://bucket/prefix, not {url!r}.")
    endpoint, addressing = values["archive", "endpoint"], values["archive", "addressing"]
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise SettingsError(f"{path}: [archive] endpoint must start with https:// or http://.")
    if addressing not in ("auto", "path"):
        raise SettingsError(f"{path}: [archive] addressing must be auto or path, not {addressing!r}.")
    prefix = (found[2] or "").strip("/")
    return Bucket(found[1], prefix, endpoint, values["archive", "region"], addressing == "path")


def _access(path: Path, values: dict[tuple[str, str], Any]) -> Access:
    hours = {name: values["access", name] for name in ("idle", "longest", "staff_idle", "staff_longest")}
    for name, value in hours.items():
        if not value:
            raise SettingsError(f"{path}: [access] {name} must be an hour or more.")
    who = values["access", "second_factor"]
    if who not in FACTORS_OF:
        raise SettingsError(f"{path}: [access] second_factor must be {', '.join(FACTORS_OF)}, not {who!r}.")
    return Access(**{name: value * 3600.0 for name, value in hours.items()}, second_factor=who)


def _oidc(path: Path, values: dict[tuple[str, str], Any]) -> Oidc | None:
    issuer: str = values["oidc", "issuer"]
    if not issuer:
        return None
    address = urlsplit(issuer)
    if address.scheme not in ("https", "http") or not address.hostname or address.query or address.fragment:
        raise SettingsError(f"{path}: [oidc] issuer must be https://…, not {issuer!r}.")
    if address.scheme == "http" and not is_loopback(address.hostname):
        raise SettingsError(f"{path}: [oidc] issuer may be http:// for a provider on this host only; use https://.")
    claim, create, scope = values["oidc", "claim"], values["oidc", "create"], values["oidc", "scope"]
    if not values["oidc", "client_id"]:
        raise SettingsError(f"{path}: [oidc] issuer needs [oidc] client_id.")
    if claim not in CLAIMS:
        raise SettingsError(f"{path}: [oidc] claim must be preferred_username or email, not {claim!r}.")
    if create and claim != "preferred_username":
        raise SettingsError(f"{path}: [oidc] create needs [oidc] claim = preferred_username, which names the account.")
    if "openid" not in scope.split():
        raise SettingsError(f"{path}: [oidc] scope must have openid in it.")
    name = values["oidc", "name"] or address.hostname
    return Oidc(issuer, values["oidc", "client_id"], name, scope, claim, create)


def _mail(path: Path, values: dict[tuple[str, str], Any]) -> Mail | None:
    if not values["mail", "server"]:
        return None
    host, port = _address(path, "[mail] server", values["mail", "server"])
    security, user = values["mail", "security"], values["mail", "user"]
    if security not in SECURITIES:
        raise SettingsError(f"{path}: [mail] security must be {', '.join(SECURITIES)}, not {security!r}.")
    if user and security == "none":
        raise SettingsError(
            f"{path}: [mail] user needs [mail] security = starttls or tls.",
            "The password would be readable on its way.",
        )
    try:
        sender = check_address(values["mail", "from"])
    except InvalidInput as exc:
        raise SettingsError(f"{path}: [mail] from: {exc.message}", exc.hint) from exc
    return Mail(host, port, security, user, sender)


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
