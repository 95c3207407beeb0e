"""The package as `pip install .` makes it: a wheel from the source distribution, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, typed: str = "", **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **variables},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_from_the_source_distribution_works(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "bin", "*.egg-info", "build")
    shutil.copytree(ROOT, tree, ignore=ignored)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path / "dist", cwd=tree)
    (source,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(source) as tar:
        names = tar.getnames()
    assert any(name.endswith("guest/agent/main.c") for name in names)
    assert not any(name.endswith("guest/bin/agent") for name in names)

    pip = (sys.executable, "-m", "pip", "-q")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "linux" in wheel.name

    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env/bin/python"
    run(*pip, "--python", python, "install", "--no-deps", wheel, cwd=tmp_path)
    # the dependencies are those of this environment; the package itself must not be
    libraries = sysconfig.get_paths()["purelib"]
    (next((tmp_path / "env/lib").glob("python*")) / "site-packages/dependencies.pth").write_text(libraries + "\n")
    where = run(python, "-c", "import workspaces; print(workspaces.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "env")), where

    home = str(tmp_path / "home")
    program = tmp_path / "env/bin/workspaces"
    assert "Personal, persistent containers" in run(program, "--help", cwd=tmp_path)
    made = run(
        program, "--home", home, "init", "--admin", "chief", "--password-file", "-", cwd=tmp_path, typed="a b c d e\n"
    )
    assert "is ready with the administrator chief" in made
    assert os.access(tmp_path / "home/guest/agent", os.X_OK)
    page = run(
        python, "-c",
        "import sys; from pathlib import Path; from workspaces import settings; from workspaces.store import Store\n"
        "from webadmin import create_app\n"
        f"s = settings.load(Path({home!r}))\n"
        "print(create_app(s, Store.open(s.database)).test_client().get('/login').text)",
        cwd=tmp_path,
    )  # fmt: skip
    assert "<form" in page
