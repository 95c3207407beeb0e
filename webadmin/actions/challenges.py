"""Adding and changing challenges from forms, with the checks of the command line; what freezing one would do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workspaces.challengeforms import MEANINGS, parse_cores, parse_mount, parse_number
from workspaces.errors import InvalidInput
from workspaces.model import Challenge, ChallengeCounts, Forwarding, FreezeMode, JobKind, Limits, Mount, WorkspaceState
from workspaces.names import parse_size
from workspaces.store import Store

# Those that concern the host, which an administrator of a challenge may not change.
OF_HOST = ("image", "mounts", "network")
ONE_LINE = (
    "image", "network", "login_user", "opens", "closes", "idle", "session", "auto_approve", "at_close", "downloads",
    "sbom", "record", "keep_last", "keep_submitted",
)  # fmt: skip
# What an empty field says.
EMPTY = {"opens": None, "closes": None, "idle": None, "session": None, "keep_last": None}
LIMITS: Mapping[str, Callable[[str], Any]] = {
    "cpus": parse_cores,
    "memory": parse_size,
    "pids": lambda text: parse_number(text, 32, 1 << 22, "processes"),
}


# A new challenge, where nothing is said.
DEFAULTS: Mapping[str, str] = {
    "slug": "", "image": "", "cpus": "1", "memory": "2g", "pids": "512", "network": "open", "mounts": "",
    "login_user": "root", "opens": "", "closes": "", "idle": "", "session": "", "auto_approve": "0",
    "at_close": "nothing", "downloads": "no", "sbom": "none", "record": "none", "keep_last": "",
    "keep_submitted": "yes",
}  # fmt: skip


@dataclass(slots=True)
class Form:
    """A form as it was sent: `values` by the store's names, or `errors` by the fields that they are in."""

    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, InvalidInput] = field(default_factory=dict)


def texts(challenge: Challenge) -> dict[str, str]:
    """What the fields of the form say of a challenge as it is."""
    return {
        "image": challenge.image,
        "cpus": f"{challenge.limits.cpus:g}",
        "memory": typed_size(challenge.limits.memory),
        "pids": str(challenge.limits.pids),
        "network": challenge.network.value,
        "mounts": "\n".join(f"{mount.source}:{mount.target}" for mount in challenge.mounts),
        "login_user": challenge.login_user,
        "opens": _time(challenge.opens_at),
        "closes": _time(challenge.closes_at),
        "idle": _length(challenge.idle_seconds),
        "session": _length(challenge.session_seconds),
        "auto_approve": str(challenge.auto_approve),
        "at_close": challenge.at_close.value if challenge.at_close else "nothing",
        "downloads": "yes" if challenge.downloads else "no",
        "sbom": challenge.sbom.value,
        "record": challenge.record.value,
        "keep_last": "" if challenge.keep_last is None else str(challenge.keep_last),
        "keep_submitted": "yes" if challenge.keep_submitted else "no",
    }


def read(typed: Mapping[str, str], forwards: Sequence[str], before: Challenge | None, *, host: bool) -> Form:
    """What a form says; of a challenge that is there, what it says anew. Without `host`, nothing that concerns it.

    A field that was not sent is left as it is, and so is one that says what it said when the form was made (`was` in
    it): somebody else may have changed it since. A directory that is mounted already is not looked for again.
    """
    form = Form()
    base = before.limits if before else Limits()
    limits = {name: getattr(base, name) for name in LIMITS}
    was = _was(typed)
    old = {**texts(before), **was} if before else {}
    for name, parse in LIMITS.items():
        text = _text(typed, name)
        if text and text != old.get(name):
            with _Field(form, name):
                limits[name] = parse(text)
    for name in ONE_LINE:
        if name not in typed or (name in OF_HOST and not host) or _text(typed, name) == old.get(name):
            continue
        key, parse = MEANINGS[name]
        with _Field(form, name):
            empty = name in EMPTY and not _text(typed, name)
            form.values[key] = EMPTY[name] if empty else parse(_text(typed, name))
    if host and "mounts" in typed and typed["mounts"].split() != was.get("mounts", "\0").split():
        with _Field(form, "mounts"):
            lines = [line.strip() for line in typed["mounts"].splitlines() if line.strip()]
            form.values["mounts"] = read_mounts(lines, before.mounts if before else ())
    if "forwards" in typed and was.get("forwards") != _joined(forwards):
        with _Field(form, "forwarding"):
            form.values["forwarding"] = tuple(kind for kind in Forwarding if kind.value in forwards)
    if Limits(**limits) != base or before is None:
        form.values["limits"] = Limits(**limits)
    if before is not None:
        form.values = {name: value for name, value in form.values.items() if value != _now(before, name)}
    return form


def read_mounts(lines: Iterable[str], known: Sequence[Mount]) -> tuple[Mount, ...]:
    """What lines such as `/data/als:/data` say; of those that are `known`, the directory is not looked for."""
    there = {f"{mount.source}:{mount.target}": mount for mount in known}
    return tuple(there.get(line) or parse_mount(line) for line in lines)


def said_now(challenge: Challenge) -> str:
    """What a form of it says before anybody types, for the form to carry as `was`."""
    return json.dumps({**texts(challenge), "forwards": _joined(challenge.forwarding)})


def _joined(forwards: Iterable[str]) -> str:
    return ",".join(sorted(filter(None, forwards)))


def _was(typed: Mapping[str, str]) -> dict[str, str]:
    try:
        said = json.loads(typed.get("was") or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(text) for name, text in said.items()} if isinstance(said, dict) else {}


def change(store: Store, slug: str, values: Mapping[str, Any], *, apply_limits: bool, actor: str) -> int:
    """Change a challenge; with `apply_limits` give them to containers that exist too: how many jobs that are.

    Raises InvalidInput, NotFound.
    """
    with store.transaction():
        store.set_challenge(slug, actor=actor, **values)
        if not apply_limits:
            return 0
        there = [w for w in store.workspaces(challenge=slug) if w.state is not WorkspaceState.ABSENT]
        for workspace in there:
            store.add_job(JobKind.LIMITS, workspace.id, actor=actor)
        return len(there)


@dataclass(frozen=True, slots=True)
class Preview:
    """What freezing a challenge would meet: workspaces, those that run, those with somebody on, requests, versions."""

    workspaces: int
    running: int
    on: int
    requests: int
    versions: int


def preview(store: Store, challenge: Challenge) -> Preview:
    """What there is to freeze now."""
    counts = store.challenge_counts().get(challenge.slug, ChallengeCounts())
    on = store.count_matching(f"challenge:{challenge.slug} on:yes")
    return Preview(counts.workspaces, counts.running, on, counts.requests, counts.versions)


def freezes_now(before: Challenge, values: Mapping[str, Any]) -> bool:
    """Whether these changes freeze a challenge at once, its closing time being over."""
    closes_at, mode = (values.get(name, getattr(before, name)) for name in ("closes_at", "at_close"))
    changed = not {"closes_at", "at_close"}.isdisjoint(values)
    return changed and mode is not None and closes_at is not None and closes_at <= time.time()


def freeze_mode(text: str) -> FreezeMode:
    """Raises InvalidInput."""
    try:
        return FreezeMode(text)
    except ValueError:
        raise InvalidInput("That is no way to freeze a challenge.") from None


class _Field:
    """Notes an InvalidInput with the field that it is in."""

    def __init__(self, form: Form, name: str) -> None:
        self._form, self._name = form, name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if isinstance(error, InvalidInput):
            self._form.errors[self._name] = error
            return True
        return False


def _text(typed: Mapping[str, str], name: str) -> str:
    return typed.get(name, "").strip()


def _now(challenge: Challenge, name: str) -> Any:
    value = getattr(challenge, name)
    return tuple(kind for kind in Forwarding if kind in value) if name == "forwarding" else value


def _time(at: float | None) -> str:
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S" if moment.second else "%Y-%m-%dT%H:%M")


def _length(seconds: float | None) -> str:
    """As parse_duration reads it."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def typed_size(count: int | None) -> str:
    """Bytes as parse_size reads them; empty for None."""
    if count is None:
        return ""
    for unit, size in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if count % size == 0:
            return f"{count // size}{unit}"
    return str(count)
