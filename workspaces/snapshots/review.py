"""What an administrator should know before approving: pure, a list of changed paths in, sentences out.

Only names, sizes and modes are looked at, never contents: the container belongs to the participant.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import replace

from workspaces.model import ChangeReport, Mount
from workspaces.names import amount, printable

WARN_LAYERS = 60
FLATTEN_LAYERS = 100  # a version of as many gets the base image's and one more
MAX_LAYERS = 120  # Docker's own ceiling is 125
LARGE_FILE = 1 << 30
LARGE_TOTAL = 5 << 30
NAMED = 5  # paths named in one warning

# What a path's name says that it holds. Certificates that packages install are left out below.
_SECRETS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"/\.ssh/(?!.*\.pub$|known_hosts|authorized_keys|config$|environment$)[^/]+$", "private ssh keys"),
        (r"/ssh_host_\w+_key$", "ssh host keys"),
        (r"/\.(?:\w+_history|history|lesshst|viminfo)$|/fish_history$", "command histories"),
        (
            r"/(?:\.(?:netrc|pgpass|my\.cnf|git-credentials|npmrc|pypirc|s3cfg|boto|vault-token)|_netrc)$"
            r"|/\.(?:aws|azure|config/gcloud|config/gh|config/rclone|docker|huggingface|kaggle|kube)/"
            r"(?:credentials|credentials\.db|application_default_credentials\.json|hosts\.yml|rclone\.conf|config\.json"
            r"|token|kaggle\.json|config|access_tokens\.db|\w*token\w*\.(?:json|db|cache))$"
            r"|/\.cache/huggingface/(?:token|stored_tokens)$|/\.jupyter/jupyter_server_config\.json$",
            "stored passwords or tokens",
        ),
        (r"/\.env(?:\.[\w-]+)?$|/secrets?\.(?:json|ya?ml|toml|txt|env)$", "files of secrets"),
        (r"\.(?:pem|key|p12|pfx|jks|kdbx|ppk)$", "private keys or certificates"),
    )
)
_PACKAGED = re.compile(r"/etc/ssl/certs/|/usr/(?:share|lib|local/share/ca-certificates)/|/(?:site|dist)-packages/")


def review(
    report: ChangeReport, *, since: str, layers: int, mounts: tuple[Mount, ...], since_is_version: bool
) -> ChangeReport:
    """`report` with warnings, and with what a commit leaves out.

    `since` names the image that it was counted against for people, `layers` is how many layers the version would have.
    """
    warnings = [*report.warnings, *_contents(report, since, since_is_version)]
    if not (report.added or report.changed or report.removed):
        warnings.insert(0, f"Nothing has changed since {since}.")
    if report.bytes >= LARGE_TOTAL:
        warnings.append(f"It adds {amount(report.bytes)}; a file with holes counts with its full size.")
    if layers > MAX_LAYERS:
        warnings.append(too_many_layers(layers))
    elif layers >= WARN_LAYERS:
        warnings.append(f"The version would have {layers} layers; at {FLATTEN_LAYERS} they are merged into one.")
    left_out = [
        *report.not_captured,
        *(f"{mount.target}: a data directory of the host" for mount in mounts),
        "file systems in memory, such as that at /dev/shm",
        "sockets, running processes and their memory",
        "/etc/hosts, /etc/hostname and /etc/resolv.conf, which the engine makes for each container",
    ]
    return replace(report, since=since, warnings=tuple(warnings), not_captured=tuple(dict.fromkeys(left_out)))


def too_many_layers(layers: int) -> str:
    """Why a version with that many layers is not made."""
    return (
        f"The version would have {layers} layers, and engines stack few more than {MAX_LAYERS}: "
        "each restore of a version adds one."
    )


def _contents(report: ChangeReport, since: str, since_is_version: bool) -> Iterable[str]:
    there = [change for change in report.entries if change.kind != "removed"]
    for pattern, what in _SECRETS:
        found = [c.path for c in there if pattern.search(c.path) and not _PACKAGED.search(c.path)]
        if found:
            yield f"There may be {what}: {_names(found)}."
    if since_is_version:
        gone = [c.path for c in report.entries if c.kind == "removed" and _is_secret(c.path)]
        if gone:
            yield f"Deleted, but still readable in {since} below it: {_names(gone)}."
    setuid = [c.path for c in there if stat.S_ISREG(c.mode) and c.mode & (stat.S_ISUID | stat.S_ISGID)]
    if setuid:
        yield f"There are programs that run as their owner or group (setuid, setgid): {_names(setuid)}."
    large = [f"{c.path} ({amount(c.size)})" for c in there if c.size >= LARGE_FILE]
    if large:
        yield f"There are very large files: {_names(large)}."
    if len(report.entries) < report.added + report.changed + report.removed:
        yield (
            f"Only {len(report.entries)} of {report.added + report.changed + report.removed} changed paths are listed "
            "and were looked at."
        )


def _is_secret(path: str) -> bool:
    return not _PACKAGED.search(path) and any(pattern.search(path) for pattern, _ in _SECRETS)


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(printable(path, 120) for path in paths[:NAMED]) + more
