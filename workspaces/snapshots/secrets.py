"""Secrets in what a container changed: by the names of files, and by their contents.

    changed files, likely places first ─► open (engine) ─► bytes ─► scanner process (scanner.py) ─► path and kind

Names are judged first and for all files. Contents are read within a budget of bytes and seconds; what is not read is
counted, so that nobody hides a secret behind a gigabyte of rubbish without its being said. What was found is kept as
path and kind, never the secret itself.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from workspaces.model import Change

log = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("scanner.py")
FILE_MAX = 16 << 20  # bytes; larger files are data
STARTS = 3  # of the scanner: some file ends it
KIND_MAX = 60

# What a path's name says that it holds. Certificates that packages install are left out below.
_NAMES = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"/\.ssh/(?![^/]*\.pub$|known_hosts|authorized_keys|config$|environment$)[^/]+$", "private ssh keys"),
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
_BULK = re.compile(r"/(?:usr|lib\w*|s?bin|var)/|.*/(?:(?:site|dist)-packages|node_modules|pkgs|conda-meta|library)/")
_PEOPLE = re.compile(r"/(?:root|home|srv|work|workspace|mnt|opt|etc|tmp)/")


def kind_of_name(path: str) -> str | None:
    """What a file of that name may hold, None for nothing that should stay secret."""
    if _PACKAGED.search(path):
        return None
    return next((what for pattern, what in _NAMES if pattern.search(path)), None)


def likelihood(change: Change) -> tuple[int, int, str]:
    """A key that sorts files in which people leave secrets before those that packages brought, small ones first."""
    if kind_of_name(change.path):
        rank = 0
    elif _BULK.match(change.path):
        rank = 4
    elif _PEOPLE.match(change.path):
        rank = 1 if "/." in change.path else 2
    else:
        rank = 3
    return rank, change.size, change.path


class ScannerFailed(Exception):
    """The scanner cannot be run, or ended too often."""


class Scanner:
    """The scanner process, started when it is first needed; it ends with the block, or `seconds` after its start."""

    def __init__(self, cache: Path, seconds: float) -> None:
        self._cache = cache
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._starts = 0

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def scan(self, data: bytes) -> tuple[str, ...] | None:
        """Kinds of secrets in `data`; None when it takes too long, or ends the scanner. Raises ScannerFailed."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(data).to_bytes(4, "big") + data)
            process.stdin.flush()
            answer = json.loads(process.stdout.readline(1 << 16))
        except (OSError, ValueError):  # it ended, or says what it never says
            answer = False
        if isinstance(answer, list):
            return tuple(str(kind)[:KIND_MAX] for kind in answer)
        if answer is not None:
            self._end()
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        if self._starts == STARTS:
            raise ScannerFailed(f"it ended {STARTS} times")
        self._starts += 1
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(SCRIPT), str(self._cache)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
            )
        except OSError as exc:
            raise ScannerFailed(exc.strerror or "it cannot be started") from exc
        self._timer = threading.Timer(self._seconds, self._process.kill)
        self._timer.daemon = True
        self._timer.start()
        return self._process

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._process.wait()
            self._process = None
