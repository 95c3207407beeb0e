"""`workspaces doctor`: what of this host is in order, what is not, and the fix for each.

    checks (pure look-ups, nothing is changed) ─► Finding(level, subject, sentence, fix) ─► printed by the command line

Levels: `ok`, `warn` (works, but worse than it could), `bad` (does not work).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workspaces import assets, heartbeat, mail, prerequisites
from workspaces.archive import open_archive
from workspaces.archive.sealing import IDENTITY_FILE
from workspaces.engine import keyrings
from workspaces.engine.base import Engine
from workspaces.errors import WorkspacesError
from workspaces.model import DeliveryState
from workspaces.settings import Settings
from workspaces.store import Store

ENGINE_WANTED = (29, 7)
KEYRINGS_WANTED = 2000
RUNC_WANTED = (1, 2, 8)
FREE_WANTED = 10 << 30
CAP_SYS_RESOURCE = 24  # its bit in /proc/self/status CapEff, capabilities(7)


@dataclass(frozen=True, slots=True)
class Finding:
    level: str
    subject: str
    sentence: str
    fix: str = ""


def host() -> Iterator[Finding]:
    """What can be told without a state directory."""
    if os.geteuid() == 0:
        yield Finding("ok", "root", "this is root")
    else:
        yield Finding("bad", "root", "this is not root; an engine cannot be started", "run it as root")
    missing = prerequisites.absent()
    for item in prerequisites.TABLE:
        if item.stage != "run":
            continue
        if item in missing:
            yield Finding("bad", item.name, f"absent; it {item.why}", f"apt-get install {' '.join(item.packages)}")
        else:
            yield Finding("ok", item.name, f"it {item.why}")
    if lacking := assets.missing():
        yield Finding("warn", "scripts", f"the web application lacks {', '.join(lacking)}", "make install")
    if not any(Path("/sys/fs/cgroup").glob("*/cgroup.procs")) and not Path("/sys/fs/cgroup/cgroup.procs").exists():
        yield Finding("bad", "cgroups", "none is mounted; limits need them", "apt-get install cgroupfs-mount")
    else:
        yield Finding("ok", "cgroups", "mounted")
    effective = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if effective and not int(effective[1], 16) >> CAP_SYS_RESOURCE & 1:
        yield Finding(
            "warn",
            "capabilities",
            "root lacks CAP_SYS_RESOURCE here: raised limits and negative out-of-memory scores fail",
            "nothing to do unless this program runs in a container that could be given it",
        )


def state(settings: Settings) -> Iterator[Finding]:
    """The state directory: permissions and room."""
    home = settings.home
    mode = home.stat().st_mode
    if stat.S_IMODE(mode) & 0o007:
        yield Finding("bad", "state", f"{home} is open to everybody", f"chmod 700 {home}")
    for key in sorted(settings.keys.glob("*")):
        if key.suffix != ".pub" and stat.S_IMODE(key.stat().st_mode) & 0o077:
            yield Finding("bad", "keys", f"{key} can be read by others", f"chmod 600 {key}")
    problem = heartbeat.trouble(settings.locks)
    if problem is None:
        yield Finding("ok", "worker", "it runs and shows life")
    else:
        yield Finding("warn", "worker", problem.rstrip("."), "workspaces serve, or workspaces worker")
    for place in {home, settings.archive_dir if settings.archive_dir.exists() else home}:
        usage = shutil.disk_usage(place)
        level = "ok" if usage.free >= FREE_WANTED else "warn"
        fix = "" if level == "ok" else "make room, or put [archive] url on another disk"
        yield Finding(level, "disk", f"{usage.free >> 30} GiB free of {usage.total >> 30} in {place}", fix)


def news(settings: Settings, store: Store) -> Iterator[Finding]:
    """Whether mail and webhooks leave this host."""
    password = settings.keys / mail.PASSWORD_FILE
    if settings.mail is not None and settings.mail.user and not password.exists():
        yield Finding(
            "warn", "mail", f"{password} is absent", f"write the password of {settings.mail.user} into it, mode 600"
        )
    dead = store.deliveries([DeliveryState.DEAD], limit=1)
    if dead:
        yield Finding(
            "warn",
            "deliveries",
            f"mails or calls of webhooks were given up, at last to {dead[0].target or dead[0].user}: {dead[0].error}",
            "workspaces delivery list --state dead",
        )


def archive(settings: Settings) -> Iterator[Finding]:
    """The archive: whether it answers, and whether what is written there is encrypted."""
    try:
        found = open_archive(settings)
        versions = len(found.digests())
    except WorkspacesError as error:
        yield Finding("bad", "archive", error.message, error.hint or "workspaces archive verify")
        return
    recipients = len(settings.archive_recipients)
    sealed = f"encrypted for {recipients} recipients" if recipients else "not encrypted"
    yield Finding("ok", "archive", f"{versions} versions in {found.where}; new ones are {sealed}")
    if recipients and settings.registry_url and not (settings.keys / IDENTITY_FILE).exists():
        yield Finding(
            "bad",
            "registry",
            "nothing here opens what is archived, so that no version can be pushed",
            f"put the identity there as {settings.keys / IDENTITY_FILE}, or take out [registry] url",
        )


def engine(found: Engine) -> Iterator[Finding]:
    """The engine: whether it answers, its versions, and whether root inside is root outside."""
    try:
        info = found.info()
    except WorkspacesError as error:
        yield Finding("bad", "engine", error.message, error.hint or "workspaces engine start")
        return
    yield Finding("ok", "engine", f"{info.name} {info.version} answers, {info.storage_driver}, {info.data_root}")
    if _version(info.version) < ENGINE_WANTED:
        yield Finding(
            "warn",
            "engine",
            f"{info.version} is older than {'.'.join(map(str, ENGINE_WANTED))}: known holes in its copy commands, "
            "which this program never uses",
            "do not use `docker cp` on a participant's container; upgrade when the distribution has a newer one",
        )
    if _version(info.runtime_version) < RUNC_WANTED:
        wanted = ".".join(map(str, RUNC_WANTED))
        yield Finding("warn", "runc", f"{info.runtime_version} is older than {wanted}", "upgrade runc")
    if info.userns:
        yield Finding("ok", "user namespaces", "root in a container is an unprivileged user of this host")
        keys = keyrings.allowed()
        if keys is not None and keys < KEYRINGS_WANTED:
            yield Finding(
                "warn",
                "keyrings",
                f"the kernel lets no more than about {keys} containers run: each takes a keyring of that one user",
                "sysctl -w kernel.keys.maxkeys=20000 kernel.keys.maxbytes=2000000, and in /etc/sysctl.d",
            )
    else:
        yield Finding(
            "warn",
            "user namespaces",
            "root in a container is root of this host, held back by fewer capabilities only",
            'set "userns-remap": "default" in /etc/docker/daemon.json, or use the private engine',
        )
    for warning in info.warnings:
        yield Finding("warn", "engine", warning)


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
