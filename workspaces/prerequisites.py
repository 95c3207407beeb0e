"""What this program needs of its host: one table, used by `make install`, `make test` and `workspaces doctor`.

It runs before anything is installed (`python3 workspaces/prerequisites.py install`), so it uses the standard
library only. `install` first finds everything that is wrong, then installs the packages that are absent in one
apt transaction, then makes the virtual environment; what fails leaves nothing half-installed behind.

    install [--tests | --bench]   →  check host  →  apt-get (absent packages)  →  .venv  →  pip  →  npm  →  ready

Only npm may fail: then the web application says what it lacks.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLICY = Path("/usr/sbin/policy-rc.d")
SFTP_SERVERS = tuple(
    Path(directory, "sftp-server")
    for directory in ("/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec/openssh", "/usr/libexec")
)


@dataclass(frozen=True)
class Prerequisite:
    """One program or library of the host; `stage` is `run` (make install), `test` (make test as well) or `bench`.

    The tests try the measurements too, so they need both.
    """

    name: str
    why: str
    packages: tuple[str, ...]
    present: Callable[[], bool]
    stage: str = "run"


def _program(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name, path=PATH) for name in names)


def _venv() -> bool:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def _static_libc() -> bool:
    return any(Path("/usr/lib").glob("*-linux-gnu*/libc.a"))


def _sanitizers() -> bool:
    return any(Path("/usr/lib").glob("llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a"))


def _sftp_server() -> bool:
    return any(path.exists() for path in SFTP_SERVERS)


TABLE = (
    Prerequisite("venv", "makes the virtual environment that holds the Python packages", ("python3-venv",), _venv),
    Prerequisite("gcc", "compiles the guest agent", ("gcc",), _program("gcc")),
    Prerequisite("libc", "links the guest agent statically, so it runs in any image", ("libc6-dev",), _static_libc),
    Prerequisite("engine", "runs the containers", ("docker.io",), _program("dockerd", "containerd", "runc")),
    Prerequisite("iptables", "keeps containers away from the host and each other", ("iptables",), _program("iptables")),
    Prerequisite("ip", "makes the bridge that containers use", ("iproute2",), _program("ip")),
    Prerequisite("mmdebstrap", "builds base images from the mirror", ("mmdebstrap",), _program("mmdebstrap")),
    Prerequisite("ssh", "is the client in the demonstration", ("openssh-client",), _program("ssh", "ssh-keygen")),
    Prerequisite("sftp", "is lent to containers whose image has none", ("openssh-sftp-server",), _sftp_server),
    Prerequisite("npm", "brings the scripts of the web terminal, the player and the plots", ("nodejs", "npm"),
                 _program("node", "npm")),
    Prerequisite("clang", "fuzzes the guest agent's parser", ("clang", "libclang-rt-dev"),
                 lambda: _program("clang")() and _sanitizers(), "test"),
    Prerequisite("chromium", "is the browser that the tests drive", ("chromium",), _program("chromium"), "test"),
    Prerequisite("skopeo", "reads archives independently", ("skopeo",), _program("skopeo"), "test"),
    Prerequisite("umoci", "reads archives independently", ("umoci",), _program("umoci"), "test"),
    Prerequisite("jq", "checks signed statements as the documentation says", ("jq",), _program("jq"), "test"),
    Prerequisite("registry", "is what the tests push versions to", ("docker-registry",),
                 _program("docker-registry"), "test"),
    Prerequisite("putty", "is one of the clients that the tests use", ("putty-tools",),
                 _program("plink", "pscp", "psftp", "puttygen"), "test"),
    Prerequisite("dropbear", "is one of the clients that the tests use", ("dropbear-bin",),
                 _program("dbclient", "dropbearconvert"), "test"),
    Prerequisite("curl", "is one of the clients that the tests use", ("curl",), _program("curl"), "test"),
    Prerequisite("sshfs", "is one of the clients that the tests use", ("sshfs",), _program("sshfs"), "test"),
    Prerequisite("xauth", "is what a display's cookie is given to", ("xauth",), _program("xauth"), "test"),
    Prerequisite("git", "is one of the clients that the tests use", ("git",), _program("git"), "test"),
    Prerequisite("rsync", "copies files, in tests and measurements", ("rsync",), _program("rsync"), "bench"),
    Prerequisite("sshd", "is what the measurements compare with", ("openssh-server",), _program("sshd"), "bench"),
)  # fmt: skip

# option of `install` → stages of the table, extra of setup.cfg
PURPOSES: dict[tuple[str, ...], tuple[tuple[str, ...], str]] = {
    (): (("run",), "run"),
    ("--tests",): (("run", "test", "bench"), "dev"),
    ("--bench",): (("run", "bench"), "bench"),
}


class Unfit(Exception):
    """This host cannot be prepared; the message says why and what to do."""


def absent(stages: tuple[str, ...] = ("run",)) -> list[Prerequisite]:
    """The prerequisites that this host lacks, in the table's order."""
    return [item for item in TABLE if item.stage in stages and not item.present()]


def check_host(missing: list[Prerequisite]) -> None:
    """Raise Unfit unless `missing` can be installed here and by this user."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything checked it
        raise Unfit(f"Python {platform.python_version()} is too old: 3.11 or newer is needed. Install python3.11.")
    if sys.platform != "linux":
        raise Unfit(f"Containers need Linux; this is {platform.system()}. Use a machine with Debian 12.")
    if not missing:
        return
    packages = " ".join(package for item in missing for package in item.packages)
    if not shutil.which("apt-get", path=PATH):
        names = ", ".join(f"{item.name} ({item.why})" for item in missing)
        raise Unfit(f"This is not Debian, so nothing was installed. Install these, then run it again: {names}.")
    if os.geteuid() != 0:
        raise Unfit(
            f"Some packages are missing and only root may install them. Nothing was changed.\n"
            f"Run this as root, or first: sudo apt-get install {packages}"
        )


@contextmanager
def _services_stay_stopped() -> Iterator[None]:
    """Keep apt from starting a system-wide engine: one that is wanted is started by whoever wants it.

    `policy-rc.d` is Debian's switch for it (invoke-rc.d(8)); one that is there already is left alone.
    """
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


@contextmanager
def _signals_wait() -> Iterator[list[int]]:
    """Let apt end what it is doing, and what belongs to it be cleared away, before a signal ends this process.

    Yields the signals that came. One that is ignored, as under nohup, stays ignored for apt as well.
    """
    came: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {end: signal.getsignal(end) for end in ends if signal.getsignal(end) is not signal.SIG_IGN}
    for end in before:
        signal.signal(end, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)
        for number in came:
            signal.raise_signal(number)


def install_packages(missing: list[Prerequisite]) -> None:
    """Install the packages of `missing`, saying what each is for.

    Raises Unfit with apt's last words, and when packages that the host has would have to go for them.
    """
    for item in missing:
        print(f"  {' '.join(item.packages)}: {item.why}", flush=True)
    packages = [package for item in missing for package in item.packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    settings = ("DPkg::Lock::Timeout=120", "Acquire::Retries=2", "Acquire::http::Timeout=20")
    get = ["apt-get", "-q", *(word for setting in settings for word in ("-o", setting))]
    with _signals_wait() as came, _services_stay_stopped():
        for arguments in (["update"], ["install", "-y", "--no-remove", "--no-install-recommends", *packages]):
            if came:
                return
            done = subprocess.run([*get, *arguments], env=environment, capture_output=True, text=True, check=False)
            # `update` ends with 0 and a warning when a mirror is out of reach; `install` then says what is not there.
            if done.returncode != 0 and arguments[0] == "install":
                removed = re.search(r"(?m)^The following packages will be REMOVED:\n((?: .*\n)+)", done.stdout)
                if removed:
                    raise Unfit(
                        f"Nothing was installed: to install {' '.join(packages)} would remove "
                        f"{' '.join(removed[1].split())}.\nIf this host can do without, remove them first."
                    )
                words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
                raise Unfit(f"The distribution's packages could not be installed. Is its mirror within reach?\n{words}")


def install_environment(extra: str) -> None:
    """Make `.venv` with the locked packages and this one, editable. An incomplete one is removed again."""
    venv = ROOT / ".venv"
    mark = venv / f".complete-{extra}"
    state = hashlib.sha256()
    for part in ("setup.cfg", "setup.py", ".ci/constraints.txt"):
        state.update((ROOT / part).read_bytes())
    for source in sorted(
        path for part in ("agent", "preload") for path in (ROOT / "workspaces/guest" / part).glob("*")
    ):
        state.update(source.read_bytes())
    agent = ROOT / "workspaces/guest/bin/agent"
    try:
        if mark.exists() and mark.read_text(encoding="ascii") == state.hexdigest() and agent.exists():
            return
    except OSError as problem:
        raise Unfit(f"{venv} is another user's. Run this as that user, or remove it.") from problem
    fresh = not (venv / "bin/pip").exists()
    why = {"dev": " for the tests", "bench": " for the measurements"}.get(extra, "")
    print(f"  .venv: Python packages{why}, and the guest agent", flush=True)
    steps = [] if not fresh else [[sys.executable, "-m", "venv", "--clear", str(venv)]]
    target = str(ROOT) if extra == "run" else f"{ROOT}[{extra}]"
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    locked = ["-c", str(ROOT / ".ci/constraints.txt")]
    # The build runs in this environment with the locked setuptools: build isolation would fetch an unlocked one.
    steps += [
        [*pip, *locked, "setuptools", "wheel"],
        [*pip, *locked, "--no-build-isolation", "-e", target],
    ]
    try:
        for step in steps:
            try:
                done = subprocess.run(step, capture_output=True, text=True, check=False)
            except OSError as problem:
                raise Unfit(f"{problem.filename} cannot be run: {problem.strerror}. Is it another user's?") from problem
            if done.returncode != 0:
                words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
                raise Unfit(f"The Python packages could not be installed. Is the package index within reach?\n{words}")
    except BaseException:
        if fresh:
            shutil.rmtree(venv, ignore_errors=True)
        raise
    mark.write_text(state.hexdigest(), encoding="ascii")


def install_assets() -> None:
    """Bring the web application's third-party scripts; say what is missing when they cannot be had."""
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "workspaces.assets"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"  The web terminal, the player and the plots are missing. {done.stderr.strip()}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """`install [--tests | --bench]`: prepare this checkout. Ends with 1 and a sentence when the host is not fit."""
    if arguments[:1] != ["install"] or tuple(arguments[1:]) not in PURPOSES:
        print("usage: prerequisites.py install [--tests | --bench]", file=sys.stderr)
        return 2
    stages, extra = PURPOSES[tuple(arguments[1:])]
    started = time.monotonic()
    try:
        missing = absent(stages)
        check_host(missing)
        if missing:
            print("Installing from the distribution, because they are absent:", flush=True)
            install_packages(missing)
        install_environment(extra)
        install_assets()
    except Unfit as unfit:
        print(f"\n{unfit}", file=sys.stderr)
        return 1
    print(f"Prepared in {time.monotonic() - started:.0f} s.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
