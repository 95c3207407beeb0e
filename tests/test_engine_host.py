"""What the private engine leaves alone on its host: shown in namespaces of the tests' own, without any daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workspaces.engine.private import PrivateEngine

STOP = "import sys, pathlib, workspaces.engine.private as p; p.PrivateEngine(pathlib.Path(sys.argv[1])).stop()"


def alone(script: str, *arguments: str) -> str:
    """Run a shell script in mount and network namespaces of its own, with an empty /run; returns its output."""
    command = ("unshare", "--mount", "--net", "sh", "-euc", f"mount -t tmpfs run /run\n{script}", "sh", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("propagation", ["rshared", "rprivate"])
@pytest.mark.parametrize("disk", ["data", "."])
def test_stop_leaves_an_administrators_disk_mounted(tmp_path: Path, disk: str, propagation: str) -> None:
    engine = PrivateEngine(tmp_path / "engine")
    engine.directory.mkdir()
    (engine.directory / "data").mkdir()
    mounted = engine.directory / disk
    left = alone(
        f"""
        mount --make-{propagation} /
        mount -t tmpfs disk "$3"
        mkdir -p "$1"/data/1.1/volumes/v/_data "$1"/data/1.1/overlay2/x/merged "$2"/data
        echo kept > "$1"/data/note
        mount --bind "$1"/data "$2"/data
        mount --bind "$2"/data/1.1/overlay2 "$2"/data/1.1/overlay2
        mount --make-private "$2"/data/1.1/overlay2
        mount -t tmpfs volume "$2"/data/1.1/volumes/v/_data
        mount -t tmpfs layer "$2"/data/1.1/overlay2/x/merged
        mount -t tmpfs old "$1"/data/1.1/volumes/v/_data
        "$5" -c "$4" "$1"
        cat "$1"/data/note
        test ! -e "$2"
        grep -F "$1" /proc/self/mountinfo | cut -d ' ' -f 5
        """,
        str(engine.directory),
        str(engine.run_dir),
        str(mounted),
        STOP,
        sys.executable,
    )
    assert left.split() == ["kept", str(mounted)]


@pytest.mark.parametrize(("prefix", "counts"), [((), True), (("unshare", "--pid", "--fork"), False)])
def test_a_process_in_a_container_is_no_daemon(tmp_path: Path, prefix: tuple[str, ...], counts: bool) -> None:
    engine = PrivateEngine(tmp_path / "engine")
    pretend = 'exec -a dockerd sh -c "echo ready; read _" --config-file "$1"'
    command = (*prefix, "bash", "-c", pretend, "bash", str(engine.directory / "daemon.json"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert engine.status().pid == (process.pid if counts else None)
