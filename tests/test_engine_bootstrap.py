"""Base images: which sources are used, what a failing build says, what an image is told to lack."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workspaces.engine import (
    bootstrap,
    images,
)
from workspaces.engine.base import RunResult
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import (
    EngineError,
    HostError,
    InvalidInput,
    NoSpace,
)

APT_LIST = """
# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib
deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive.gpg ] http://mirror.example/debian bookworm-updates main #
deb [signed-by=/etc/apt/keyrings/other.gpg] http://other.example/debian bookworm main
deb http://third.example/apt stable main
deb-src http://mirror.example/debian bookworm main
"""
APT_SOURCES = """Types: deb deb-src
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://other.example/x
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/nodesource.gpg

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
"""


BUILDS = "echo 'I: running apt-get update...' >&2; cd /; tar cf $1 etc/hostname; echo x >> ${0}.runs"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "apt"
    (directory / "sources.list.d").mkdir(parents=True)
    monkeypatch.setattr(bootstrap, "APT_DIRECTORY", directory)
    monkeypatch.setattr(bootstrap, "host_suite", lambda: "bookworm")
    return directory


def test_only_debians_own_sources_are_used(apt: Path) -> None:
    with pytest.raises(HostError, match="bookworm"):
        bootstrap.debian_sources("bookworm")
    (apt / "sources.list").write_text(APT_LIST, encoding="ascii")
    (apt / "sources.list.d" / "debian.sources").write_text(APT_SOURCES, encoding="ascii")
    signed = f"deb [signed-by={bootstrap.KEYRING}]"
    assert bootstrap.debian_sources("bookworm").splitlines() == [
        f"{signed} http://mirror.example/debian bookworm main contrib",
        f"{signed} http://mirror.example/debian bookworm-updates main",
        f"{signed} http://security.example/debian-security bookworm-security main contrib",
    ]
    assert bootstrap.debian_sources("trixie").splitlines()[2].split()[3] == "trixie-security"


def test_a_list_of_mirrors_gives_its_first_one(apt: Path, tmp_path: Path) -> None:
    """Debian's cloud images name a file of the host, which the image does not have."""
    mirrors = tmp_path / "debian.list"
    mirrors.write_text("# nearest\nfile:/srv/mirror\nhttps://first.example/debian\tpriority:1\nhttps://b.example/x\n")
    (apt / "sources.list").write_text(
        f"deb mirror+file:{mirrors} bookworm main\ndeb mirror+file:/no/such.list bookworm main\n", encoding="ascii"
    )
    (apt / "sources.list.d" / "debian.sources").write_text(
        f"Types: deb\nURIs: mirror+file://{mirrors}\nSuites: bookworm bookworm-updates\nComponents: main\n",
        encoding="ascii",
    )
    signed = f"deb [signed-by={bootstrap.KEYRING}]"
    assert bootstrap.debian_sources("bookworm").splitlines() == [
        f"{signed} https://first.example/debian bookworm main",
        f"{signed} https://first.example/debian bookworm-updates main",
    ]
    mirrors.unlink()
    with pytest.raises(HostError, match="bookworm"):
        bootstrap.debian_sources("bookworm")


def test_a_password_for_the_mirror_is_not_in_the_image(
    apt: Path, memory: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apt / "sources.list").write_text("deb https://user:s3@cret@mirror.example/a@b bookworm main\n", encoding="ascii")
    popen = subprocess.Popen
    uploaded = {}

    def start(command: list[str], **named: Any) -> Any:
        """What the hooks do: the file that mmdebstrap makes of the listing goes, and another one is uploaded."""
        assert "//user:s3@cret@mirror.example/a@b " in Path(command[-1]).read_text(encoding="ascii")
        hooks = [word.removeprefix("--customize-hook=") for word in command if word.startswith("--customize-hook=")]
        assert any(
            hook.startswith("rm ") and f"/etc/apt/sources.list.d/0000{Path(command[-1]).name}" in hook for hook in hooks
        )
        for hook in hooks:
            if hook.startswith("upload "):
                uploaded[hook.split()[2]] = Path(hook.split()[1]).read_text(encoding="ascii")
        return popen(["tar", "cf", command[-2], "-C", "/", "etc/hostname"], **named)

    monkeypatch.setattr(subprocess, "Popen", start)
    bootstrap.build(memory, "debian-ds:12", (), None, lambda *_: None)
    assert uploaded["/etc/apt/sources.list"].split()[2:] == ["https://mirror.example/a@b", "bookworm", "main"]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[MemoryEngine]:
    engine = MemoryEngine(tmp_path / "memory", tmp_path / "guest")
    yield engine
    engine.close()


def fake_mmdebstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Have `script` run instead; it gets the target as $1."""
    program = tmp_path / "mmdebstrap"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    popen = subprocess.Popen

    def start(command: list[str], **named: Any) -> Any:
        assert command[0] == "mmdebstrap"
        assert "http://mirror.example/debian" in Path(command[-1]).read_text(encoding="ascii")
        return popen([str(program), command[-2]], **named)

    monkeypatch.setattr(subprocess, "Popen", start)


def test_an_image_is_built_once_from_the_same_input(
    apt: Path, memory: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apt / "sources.list").write_text(APT_LIST, encoding="ascii")
    fake_mmdebstrap(
        monkeypatch,
        tmp_path,
        "echo 'I: running apt-get update...' >&2; cd /; tar cf $1 etc/hostname; echo x >> ${0}.runs",
    )
    said: list[str] = []
    for _ in range(2):
        made = bootstrap.build(
            memory, "debian-ds:12", ("python3",), None, lambda text, _: said.append(text), tmp_path / "c"
        )
    assert memory.image("debian-ds:12") == made
    assert said == ["running apt-get update", "importing the image", "importing the image"]
    assert (tmp_path / "mmdebstrap.runs").read_text(encoding="ascii") == "x\n"
    bootstrap.build(memory, "debian-ds:12", (), None, lambda *_: None)
    assert (tmp_path / "mmdebstrap.runs").read_text(encoding="ascii") == "x\nx\n"


@pytest.mark.parametrize(
    ("words", "kind"), [("E: Unable to locate package zzz", EngineError), ("No space left", NoSpace)]
)
def test_a_build_that_fails_tells_why_and_leaves_nothing(
    apt: Path,
    memory: MemoryEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    kind: type[EngineError],
) -> None:
    (apt / "sources.list").write_text(APT_LIST, encoding="ascii")
    fake_mmdebstrap(monkeypatch, tmp_path, f"echo part > $1; echo '{words}' >&2; exit 1")
    with pytest.raises(NoSpace if "space" in words else EngineError) as caught:
        bootstrap.build(memory, "debian-ds:12", (), None, lambda *_: None, tmp_path / "cache")
    assert words in caught.value.hint
    assert list((tmp_path / "cache").iterdir()) == []
    assert memory.images() == []


@pytest.mark.parametrize(
    ("packages", "suite"),
    [(("--hook=x",), None), (("a b",), None), (("A",), None), ((), "--x"), ((), "../x"), ((), "a b")],
)
def test_what_is_no_package_or_suite(memory: MemoryEngine, packages: tuple[str, ...], suite: str | None) -> None:
    with pytest.raises(InvalidInput):
        bootstrap.build(memory, "debian-ds:12", packages, suite, lambda *_: None)


def test_what_an_image_lacks_is_told(memory: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"sh\t/bin/sh\nbash\t\ngit\t/usr/bin/git\nvi\t/usr/bin/vi\n\xff\t/x\n"
    monkeypatch.setattr(memory, "run", lambda *_: RunResult(0, said, b""))
    findings = {finding.name: finding for finding in images.check(memory, "x:1")}
    assert findings["sh"].present
    assert findings["nano or vim or vi or emacs"].path == "/usr/bin/vi"
    missing = findings["rsync"]
    assert (missing.present, missing.required) == (False, False)
    assert "rsync cannot copy files" in str(missing)
    assert "--packages rsync" in str(missing)
    monkeypatch.setattr(memory, "run", lambda *_: RunResult(126, b"", b"exec format error"))
    with pytest.raises(EngineError, match="could not be looked into"):
        images.check(memory, "x:1")
