"""Third-party scripts of the web application: taken from npm by the lock file, and copied to where they are served.

    webadmin/assets/package-lock.json ─► npm ci ─► the few files in FILES ─► webadmin/static/vendor/

None of them is in the repository. Without npm or its registry everything else works: the pages that want one say
what is missing. It uses the standard library only, since `setup.py` runs it before anything is installed.

    python -m workspaces.assets          copies what is missing or of another version
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WEBADMIN = Path(__file__).resolve().parent.parent / "webadmin"
LOCK = "package-lock.json"
NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000")
SECONDS = 300

# name in static/vendor → file in a package
FILES = {
    "xterm.js": "@xterm/xterm/lib/xterm.js",
    "xterm.css": "@xterm/xterm/css/xterm.css",
    "xterm.LICENSE.txt": "@xterm/xterm/LICENSE",
    "xterm-fit.js": "@xterm/addon-fit/lib/addon-fit.js",
    "asciinema-player.js": "asciinema-player/dist/bundle/asciinema-player.min.js",
    "asciinema-player.css": "asciinema-player/dist/bundle/asciinema-player.css",
    "asciinema-player.LICENSE.txt": "asciinema-player/LICENSE",
    "uplot.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE.txt": "uplot/LICENSE",
}


class Unavailable(Exception):
    """They could not be had; the message says why and what to do."""


def missing(webadmin: Path = WEBADMIN) -> list[str]:
    """The files that are not there, or all of them when they are of another lock file."""
    vendor = webadmin / "static/vendor"
    try:
        current = (vendor / "lock.sha256").read_text(encoding="ascii") == _state(webadmin)
    except OSError:
        current = False
    return [name for name in FILES if not current or not (vendor / name).is_file()]


def install(webadmin: Path = WEBADMIN, vendor: Path | None = None, *, tests: bool = True) -> None:
    """Put them into `vendor`, by default where `webadmin` serves them. Raises Unavailable; what was there stays then.

    With `tests` the packages stay beside the lock file, as the tests use one that is not served.
    """
    vendor = vendor or webadmin / "static/vendor"
    if tests:
        _fetch(webadmin / "assets", ())
        _copy(webadmin, webadmin / "assets/node_modules", vendor)
        return
    with tempfile.TemporaryDirectory() as name:
        for file in ("package.json", LOCK):
            shutil.copy(webadmin / "assets" / file, name)
        _fetch(Path(name), ("--omit=dev",))
        _copy(webadmin, Path(name) / "node_modules", vendor)


def _fetch(directory: Path, options: tuple[str, ...]) -> None:
    again = "Then run make install again; until then the pages that need them say so."
    if shutil.which("npm") is None:
        raise Unavailable(f"npm is not installed: apt install nodejs npm. {again}")
    try:
        done = subprocess.run(
            [*NPM, *options], cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm did not end within {SECONDS} s. Is its registry within reach? {again}") from None
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise Unavailable(f"npm could not install them. Is its registry within reach? {again}\n{words}")


def _copy(webadmin: Path, packages: Path, vendor: Path) -> None:
    """All of them or none: a page never loads half of a new version."""
    vendor.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=vendor.parent, prefix=".vendor-"))
    try:
        for name, source in FILES.items():
            data = (packages / source).read_bytes()
            if name.endswith((".js", ".css")):  # no maps are served
                data = b"\n".join(line for line in data.split(b"\n") if b"sourceMappingURL=" not in line[:60])
            (new / name).write_bytes(data)
        (new / "lock.sha256").write_text(_state(webadmin), encoding="ascii")
        new.chmod(0o755)
        shutil.rmtree(vendor, ignore_errors=True)
        new.rename(vendor)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _state(webadmin: Path) -> str:
    lock = hashlib.sha256((webadmin / "assets" / LOCK).read_bytes())
    lock.update(repr(FILES).encode())
    return lock.hexdigest()


def main() -> int:
    if not missing():
        return 0
    try:
        install()
    except Unavailable as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
