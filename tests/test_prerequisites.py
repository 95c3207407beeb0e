"""`make install`: what it says and does on hosts that lack something."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workspaces import prerequisites
from workspaces.prerequisites import Prerequisite, Unfit

# What apt-get says in such a case.
REMOVAL = """\
Reading package lists...
The following additional packages will be installed:
  containerd runc tini
The following packages will be REMOVED:
  containerd.io cri-tools
  kubelet
The following NEW packages will be installed:
  containerd docker.io runc tini
0 upgraded, 4 newly installed, 3 to remove and 0 not upgraded.
E: Packages need to be removed but remove is disabled.
"""
ENGINE = Prerequisite("engine", "runs the containers", ("docker.io",), lambda: False)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an apt-get that writes down how it was called; its directory of programs is returned."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setattr(prerequisites, "PATH", str(programs))
    monkeypatch.setattr(prerequisites, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


def apt(programs: Path, script: str) -> None:
    path = programs / "apt-get"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_complete_host_needs_neither_root_nor_debian(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    prerequisites.check_host([])


def test_not_root(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt(host, "exit 0")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Unfit, match=r"sudo apt-get install docker\.io"):
        prerequisites.check_host([ENGINE])


def test_not_debian(host: Path) -> None:
    with pytest.raises(Unfit, match=r"not Debian, so nothing was installed.*engine \(runs the containers\)"):
        prerequisites.check_host([ENGINE])


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 2))
    with pytest.raises(Unfit, match=r"3\.11 or newer"):
        prerequisites.check_host([])


def test_no_mirror(host: Path, tmp_path: Path) -> None:
    apt(host, 'case "$*" in *install*) echo "E: Unable to locate package docker.io" >&2; exit 100;; esac')
    with pytest.raises(Unfit, match=r"mirror within reach\?\nE: Unable to locate package docker\.io"):
        prerequisites.install_packages([ENGINE])
    assert not (tmp_path / "policy-rc.d").exists()


def test_one_transaction_with_services_held_back(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    apt(host, f'test -x {tmp_path}/policy-rc.d && echo "$*" >> {calls}')
    clang = Prerequisite("clang", "fuzzes", ("clang", "libclang-rt-dev"), lambda: False, "test")
    prerequisites.install_packages([ENGINE, clang])
    update, install = calls.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-remove --no-install-recommends docker.io clang libclang-rt-dev")
    assert not (tmp_path / "policy-rc.d").exists()
    assert "docker.io: runs the containers" in capsys.readouterr().out


def test_no_package_of_the_host_is_removed(host: Path, tmp_path: Path) -> None:
    (tmp_path / "words").write_text(REMOVAL)
    apt(
        host,
        f"""
        case "$*" in *install*--no-remove*) cat {tmp_path}/words; exit 100;; esac
        """,
    )
    with pytest.raises(Unfit, match=r"would remove containerd\.io cri-tools kubelet"):
        prerequisites.install_packages([ENGINE])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_apt_has_ended(host: Path, tmp_path: Path, number: signal.Signals) -> None:
    apt(host, f'case "$*" in *install*) kill -{int(number)} $PPID; echo installed > {tmp_path}/done;; esac')
    code = """if True:
        import pathlib, sys
        from workspaces import prerequisites
        prerequisites.POLICY = pathlib.Path(sys.argv[1])
        prerequisites.install_packages([prerequisites.Prerequisite("engine", "", ("docker.io",), bool)])
        print("went on")
    """
    # A job in the background of a shell ignores the signals of its keyboard, and so does all that it starts.
    command = ["env", "--default-signal", sys.executable, "-c", code, str(tmp_path / "policy-rc.d")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -number
    assert "went on" not in done.stdout
    assert (tmp_path / "done").read_text() == "installed\n"
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_hang_up_that_is_ignored_stays_so(host: Path, tmp_path: Path) -> None:
    apt(host, f"trap - HUP; kill -HUP $$; kill -HUP $PPID; echo alive >> {tmp_path}/done")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        prerequisites.install_packages([ENGINE])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "done").read_text() == "alive\nalive\n"


def test_a_policy_that_is_there_is_left_alone(host: Path, tmp_path: Path) -> None:
    apt(host, "exit 0")
    (tmp_path / "policy-rc.d").write_text("mine")
    prerequisites.install_packages([ENGINE])
    assert (tmp_path / "policy-rc.d").read_text() == "mine"


def test_an_incomplete_environment_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("setup.cfg", "setup.py", ".ci/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr(prerequisites, "ROOT", tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Unfit, match="Python packages could not be installed"):
        prerequisites.install_environment("run")
    assert not (tmp_path / ".venv").exists()


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert prerequisites.main(["uninstall"]) == 2
    assert "usage" in capsys.readouterr().err


def test_only_what_is_asked_for_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clang = Prerequisite("clang", "fuzzes", ("clang",), lambda: False, "test")
    there = Prerequisite("gcc", "compiles", ("gcc",), lambda: True)
    monkeypatch.setattr(prerequisites, "TABLE", (ENGINE, there, clang))
    assert prerequisites.absent() == [ENGINE]
    assert prerequisites.absent(("run", "test")) == [ENGINE, clang]


def test_the_tests_try_the_measurements_too() -> None:
    stages, _ = prerequisites.PURPOSES["--tests",]
    assert set(prerequisites.PURPOSES["--bench",][0]) <= set(stages)
    assert {item.stage for item in prerequisites.TABLE} == set(stages)
