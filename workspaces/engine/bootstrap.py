"""Base images from the distribution's mirror, for sites without a container registry.

    the host's own apt sources (Debian's only) ─► mmdebstrap ─► tar of a root file system ─► engine.import_rootfs

The mirror is the one that this host uses, so that nothing has to be configured, and it is what apt uses in the
image as well; a password for it stays here. A tar can be kept in a cache directory, named by what went into it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from workspaces.engine.base import Engine, ImageConfig, ImageInfo, Progress
from workspaces.engine.diskerrors import disk_errors
from workspaces.errors import EngineError, HostError, InvalidInput, NoSpace
from workspaces.names import check_image, printable

# What people expect of a unix account; the image has no more than this and Debian's minimal system.
COMFORT = (
    "bash-completion", "ca-certificates", "curl", "file", "git", "less", "nano",
    "openssh-client", "openssh-sftp-server", "procps", "rsync", "tmux", "unzip", "vim-tiny", "xz-utils",
)  # fmt: skip
CONFIG = ImageConfig(
    {
        "Cmd": ["bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
    }
)
APT_DIRECTORY = Path("/etc/apt")
# What apt keeps beside the packages themselves is four times the size of a small package's layer: 160 MB after one
# `apt-get update`. With these settings, which official container images of Debian have as well, it is 30 MB.
APT_SETTINGS = """Acquire::GzipIndexes "true";
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_SUITE = re.compile(r"[a-z][a-z0-9-]*")


def build(
    engine: Engine,
    reference: str,
    packages: Sequence[str],
    suite: str | None,
    progress: Progress,
    cache: Path | None = None,
) -> ImageInfo:
    """Build `reference` with COMFORT and `packages` from `suite` (default: this host's).

    With `cache`, a directory, the file system is taken from there when one was made from the same input.
    Raises InvalidInput, HostError when the host has no Debian sources, EngineError with mmdebstrap's last words,
    NoSpace.
    """
    check_image(reference)
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise InvalidInput(f"{printable(package)!r} is not the name of a package.")
    suite = suite or host_suite()
    if not _SUITE.fullmatch(suite):
        raise InvalidInput(f"{printable(suite)!r} is not a suite such as bookworm.")
    sources = debian_sources(suite)
    chosen = sorted({*COMFORT, *packages})
    identity = hashlib.sha256(repr((suite, chosen, sources, CONFIG, APT_SETTINGS)).encode()).hexdigest()[:16]
    with disk_errors(f"{reference} cannot be built"):
        if cache:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = cache / f"rootfs-{suite}-{identity}.tar"
            if not kept.exists():
                for old in cache.glob(f"rootfs-{suite}-*.tar"):
                    old.unlink()
                _bootstrap(suite, chosen, sources, kept, progress)
            progress("importing the image", None)
            return engine.import_rootfs(kept, reference, CONFIG)
        with tempfile.TemporaryDirectory(prefix="workspaces-image-", dir="/var/tmp") as directory:
            rootfs = Path(directory) / "rootfs.tar"
            _bootstrap(suite, chosen, sources, rootfs, progress)
            progress("importing the image", None)
            return engine.import_rootfs(rootfs, reference, CONFIG)


def _bootstrap(suite: str, packages: Sequence[str], sources: str, target: Path, progress: Progress) -> None:
    """Run mmdebstrap into `target`; a partial file never has that name."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with ExitStack() as stack:

        def written(text: str, suffix: str) -> str:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=suffix, encoding="utf-8"))
            file.write(text)
            file.flush()
            return file.name

        listing = written(sources, ".list")
        kept = written(_without_passwords(sources), ".list")
        settings = written(APT_SETTINGS, ".conf")
        command = [
            "mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", "--format=tar",
            "--skip=cleanup/reproducible", f"--customize-hook=upload {settings} /etc/apt/apt.conf.d/90workspaces",
            # mmdebstrap(1): a file's entries become this one
            f'--customize-hook=rm "$1"/etc/apt/sources.list.d/0000{Path(listing).name}',
            f"--customize-hook=upload {kept} /etc/apt/sources.list",
            # with pkgcache set to nothing, `apt-get clean` leaves those that were made before
            '--customize-hook=rm -f "$1"/var/cache/apt/*.bin', suite, str(partial), listing,
        ]  # fmt: skip
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        tail: list[str] = []
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
            ) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    tail = [*tail[-7:], line.rstrip()]
                    if line.startswith("I: ") and line.rstrip().endswith("..."):
                        progress(line[3:].rstrip().rstrip("."), None)
            if process.returncode != 0:
                words = "\n".join(tail)
                if "No space left" in words:
                    raise NoSpace("The disk is full; the image was not built.", words)
                raise EngineError("The image could not be built from the distribution's mirror.", words)
            partial.replace(target)
        except FileNotFoundError as exc:
            raise HostError("mmdebstrap is not installed.", "apt-get install mmdebstrap") from exc
        finally:
            partial.unlink(missing_ok=True)


def host_suite() -> str:
    """This host's Debian release, e.g. `bookworm`. Raises HostError on another distribution."""
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    if not re.search(r'^ID="?debian"?$', text, re.MULTILINE) or not found:
        raise HostError(
            "This host is not Debian, so its mirror is not known.", "Pull or load an image: workspaces image add"
        )
    return found[1]


def debian_sources(suite: str) -> str:
    """The host's apt sources for Debian's own archive, as one-line entries for `suite` and its updates.

    Third parties' sources are left out. Raises HostError when none is found. May have passwords in it.
    """
    host = host_suite()
    lines: list[str] = []
    for named, name, components in _entries():
        uri = _mirror(named)
        if uri and (name == host or name.startswith(f"{host}-")):
            lines.append(f"deb [signed-by={KEYRING}] {uri} {suite}{name.removeprefix(host)} {' '.join(components)}")
    if not lines:
        raise HostError(f"No source of Debian's {host} was found in {APT_DIRECTORY}.", "See: man sources.list")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _mirror(uri: str) -> str | None:
    """`uri`, or the first of the mirrors in the file of this host that it names (apt-transport-mirror(1))."""
    file = re.fullmatch(r"mirror\+file:(?://)?(/.+)", uri)
    if not file:
        return uri
    try:
        found = re.search(r"^[ \t]*(https?://\S+)", Path(file[1]).read_text(encoding="utf-8", errors="replace"), re.M)
    except OSError:
        return None
    return found[1] if found else None


def _without_passwords(sources: str) -> str:
    return re.sub(r"(?<=://)[^/\s]*@", "", sources)


def _entries() -> Iterator[tuple[str, str, list[str]]]:
    """URI, suite and components of each entry in apt's two formats (sources.list(5)) that Debian's own key signs."""
    for path in [APT_DIRECTORY / "sources.list", *sorted((APT_DIRECTORY / "sources.list.d").glob("*.list"))]:
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = re.fullmatch(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+?)\s*(?:#.*)?", line.strip())
            if found and _is_debians(found[1] or "", "main" in found[4].split()):
                yield found[2], found[3], found[4].split()
    for path in sorted((APT_DIRECTORY / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            text = re.sub(r"^#.*\n?", "", stanza, flags=re.MULTILINE)
            fields = {
                k.lower(): v.split() for k, v in re.findall(r"^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", text, re.MULTILINE)
            }
            signed = " ".join(fields.get("signed-by", []))
            components = fields.get("components", [])
            enabled = fields.get("enabled", ["yes"]) != ["no"]
            if "deb" in fields.get("types", []) and enabled and _is_debians(signed, "main" in components):
                for uri in fields.get("uris", []):
                    for suite in fields.get("suites", []):
                        yield uri, suite, components


def _is_debians(signed_by: str, has_main: bool) -> bool:
    """Debian's archive has a component `main`, and its own key or, in old entries, none named."""
    named = re.search(r"signed-by=(\S+)|(/\S+)", signed_by)
    return has_main and (named is None or "debian-archive" in named[0])
