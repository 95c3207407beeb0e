"""What the private engine leaves alone on its host: shown in namespaces of the tests' own, without any daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from workspaces.engine import firewall, hostnet
from workspaces.engine.firewall import Firewall
from workspaces.engine.private import PrivateEngine
from workspaces.errors import EngineError

pytestmark = pytest.mark.slow

FILTER = Firewall("wsb0", "10.1.0.0/20", routing=True, host="unix:///x")
STOP = "import sys, pathlib, workspaces.engine.private as p; p.PrivateEngine(pathlib.Path(sys.argv[1])).stop()"


def alone(script: str, *arguments: str) -> str:
    """Run a shell script in mount and network namespaces of its own, with an empty /run; returns its output."""
    command = ("unshare", "--mount", "--net", "sh", "-euc", f"mount -t tmpfs run /run\n{script}", "sh", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL = """if True:
    import os, sys
    from pathlib import Path
    from workspaces import engine, settings
    from workspaces.engine import bootstrap, private
    from workspaces.errors import WorkspacesError

    found = settings.load(Path(sys.argv[1]))
    private.PROGRAMS = ()

    def bootstrapped():
        bootstrap.debian_sources = bootstrap.host_suite = lambda *_: "bookworm"
        bootstrap.build(None, "x:1", (), None, print, Path(sys.argv[1]) / "engine" / "lock" / "cache")

    chosen = lambda: engine.open_engine(found, "0" * 12)
    for attempt in (chosen, private.PrivateEngine(found.engine_dir).start, bootstrapped):
        try:
            attempt()
        except WorkspacesError as error:
            print(type(error).__name__, error.message)
    print(sorted(os.listdir(found.engine_dir)), engine.engine_chosen(found))
"""


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


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A host that does not route, with the bridge of FILTER; nothing is remembered about it in the end."""
    with Namespace() as made:
        made.ip("link", "add", "wsb0", "type", "bridge")
        yield made
        assert not (firewall.RUN_DIR / f"net-{made.inode}").exists()


def stopped(host: Namespace) -> tuple[str, str]:
    """Whether the host routes, and what of no rule it forwards, once the filters are removed."""
    host.run(FILTER.remove)
    host.run(lambda: firewall.restore_forwarding(others=False))
    return host.state()["forwarding"], host.command("iptables", "-S", "FORWARD").splitlines()[0]


def test_a_program_that_came_meanwhile_keeps_forwarding(host: Namespace) -> None:
    theirs = ("FORWARD", "-i", "virbr0", "-j", "ACCEPT")
    host.command("iptables", "-A", "FORWARD", "-j", "DROP")  # a firewall that was there before needs none
    host.run(FILTER.ensure)
    host.command("iptables", "-A", *theirs)
    assert stopped(host) == ("1", "-P FORWARD DROP")
    host.run(FILTER.ensure)
    host.command("iptables", "-D", *theirs)
    assert stopped(host) == ("0", "-P FORWARD ACCEPT")


def test_killed_before_it_switched_forwarding_on(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, value: str) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(firewall, "set_value", killed)
        with pytest.raises(RuntimeError):
            host.run(FILTER.ensure)
    host.run(FILTER.ensure)
    assert host.state()["forwarding"] == "1"
    assert stopped(host) == ("0", "-P FORWARD ACCEPT")


def test_filters_that_could_not_be_completed_are_found_again(host: Namespace) -> None:
    host.ip("link", "delete", "wsb0")
    with pytest.raises(EngineError, match="wsb0"):
        host.run(FILTER.ensure)
    assert "wsb0-out" in host.state()["rules"]
    assert host.run(lambda: firewall.bridges_of("unix:///x")) == ["wsb0"]
    assert stopped(host) == ("0", "-P FORWARD ACCEPT")
    assert host.state()["rules"] == ""


def test_many_may_look_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "RUN_DIR", tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(firewall.bridges_of, ["unix:///x"] * 400)) == [[]] * 400
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_full_disk_is_told_and_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    script = """
        mount -t tmpfs -o size=64k disk "$1"
        mkdir "$1"/engine
        cat /dev/zero > "$1"/fill 2> /dev/null || true
        exec "$2" -c "$3" "$1"
    """
    said = alone(script, str(tmp_path), sys.executable, FULL).splitlines()
    assert said == [
        f"NoSpace The choice of an engine cannot be written in {tmp_path}/engine: the disk is full.",
        f"NoSpace The private engine in {tmp_path}/engine cannot be started: the disk is full.",
        "HostError x:1 cannot be built: Not a directory.",
        "['containerd', 'data', 'lock'] False",
    ]


def test_the_routes_of_a_vpn_for_everything_do_not_count(host: Namespace) -> None:
    host.ip("link", "set", "wsb0", "up")
    for route in ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"):
        host.ip("route", "add", route, "dev", "wsb0")
    assert str(host.run(lambda: hostnet.free_range(0))) == "172.16.0.0/20"
