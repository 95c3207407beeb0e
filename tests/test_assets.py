"""Third-party scripts: where they come from, and what happens when they cannot be had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from workspaces import assets
from workspaces.assets import FILES, Unavailable


@pytest.fixture
def webadmin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a lock file, and programs of the test's own."""
    place = tmp_path / "webadmin"
    (place / "assets").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for name in ("package.json", assets.LOCK):
        (place / "assets" / name).write_text("{}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return place


def npm(webadmin: Path, script: str) -> None:
    path = webadmin.parent / "bin/npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def making() -> str:
    """An npm that brings every file."""
    return "\n".join(
        f"mkdir -p node_modules/{Path(source).parent}; printf '1\\n//# sourceMappingURL=x\\n' > node_modules/{source}"
        for source in FILES.values()
    )


def test_the_lock_file_names_no_registry_and_everything_by_its_hash() -> None:
    text = (assets.WEBADMIN / "assets" / assets.LOCK).read_text()
    packages = json.loads(text)["packages"]
    assert "resolved" not in text
    addresses = {address for package in packages.values() for address in re.findall(r"://[^\"]+", json.dumps(package))}
    assert addresses == {
        a for p in packages.values() for a in re.findall(r"://[^\"]+", json.dumps(p.get("funding", "")))
    }
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any(package.get("hasInstallScript") for package in packages.values())


def test_they_are_copied_once_and_again_when_the_lock_file_is_another(webadmin: Path) -> None:
    npm(webadmin, making())
    assert assets.missing(webadmin) == list(FILES)
    assets.install(webadmin)
    assert assets.missing(webadmin) == []
    assert (webadmin / "static/vendor/xterm.js").read_text() == "1\n"
    (webadmin / "static/vendor/uplot.js").unlink()
    assert assets.missing(webadmin) == ["uplot.js"]
    (webadmin / "assets" / assets.LOCK).write_text("{} ")
    assert assets.missing(webadmin) == list(FILES)


def test_into_a_wheel_without_what_tests_need(webadmin: Path, tmp_path: Path) -> None:
    npm(webadmin, f'echo "$*" > {tmp_path}/called\n{making()}')
    assets.install(webadmin, tmp_path / "wheel/vendor", tests=False)
    assert set(FILES) < {path.name for path in (tmp_path / "wheel/vendor").iterdir()}
    called = (tmp_path / "called").read_text()
    assert "--ignore-scripts" in called
    assert "--omit=dev" in called
    assert sorted(path.name for path in (webadmin / "assets").iterdir()) == sorted(["package.json", assets.LOCK])


@pytest.mark.parametrize("broken", ["echo no such host >&2; exit 1", "mkdir -p node_modules; exit 3"])
def test_what_was_there_stays_when_npm_fails(webadmin: Path, broken: str) -> None:
    npm(webadmin, making())
    assets.install(webadmin)
    npm(webadmin, broken)
    with pytest.raises(Unavailable, match="registry within reach"):
        assets.install(webadmin)
    assert assets.missing(webadmin) == []


def test_npm_that_is_absent_is_named(webadmin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unavailable, match="apt install nodejs npm"):
        assets.install(webadmin)
