"""The signed statement about a version: what it says, that it is checked, and that every change to it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.worlds import World, world
from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.errors import HostError, InvalidInput, NotFound, StatementError
from workspaces.model import Snapshot, SnapshotState
from workspaces.provenance import SNAPSHOT_TYPE, PublicKey, Signer, differences, open_envelope
from workspaces.provenance.signer import PAYLOAD_TYPE
from workspaces.snapshots import Verdict, proving

pytestmark = pytest.mark.slow

__all__ = ["world"]


def quiet(message: str, fraction: float | None) -> None:
    """Progress that nobody follows."""


@pytest.fixture
def first(world: World) -> Snapshot:
    return version(world, "one")


@pytest.fixture
def second(world: World, first: Snapshot) -> Snapshot:
    return version(world, "two")


def version(world: World, name: str) -> Snapshot:
    (world.rootfs / "root" / name).write_text(name)
    snapshot = world.approved(f"message of {name}")
    world.work()
    return world.store.snapshot(snapshot.id)


def record(world: World, id: int) -> Verdict:
    return snapshots.check_record(world.store, world.signer.public, world.store.snapshot(id))


def everything(world: World, id: int) -> Verdict:
    archive = Archive(world.archive.root)
    return snapshots.check_version(world.store, archive, world.signer.public, world.store.snapshot(id), quiet)


def payload(snapshot: Snapshot) -> dict[str, Any]:
    found = json.loads(base64.b64decode(json.loads(str(snapshot.statement))["payload"]))
    assert isinstance(found, dict)
    return found


def tamper(world: World, id: int, column: str, value: object) -> None:
    """As somebody does who has the database's file."""
    with world.store._write() as db:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.table("snapshots").update(id, {column: value})


def blob(world: World, digest: str) -> Path:
    return world.archive.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# what it says


def test_it_says_who_when_what_and_from_what(world: World, first: Snapshot, second: Snapshot) -> None:
    said = payload(second)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "urn:container-workspaces:snapshot:v1"
    assert [subject["digest"]["sha256"] for subject in said["subject"]] == [
        str(second.manifest_digest)[7:],
        str(second.image_id)[7:],
    ]
    predicate = said["predicate"]
    base = world.engine.image(world.image)
    assert base is not None
    assert predicate["host"] == world.store.instance
    assert (predicate["challenge"], predicate["workspace"], predicate["version"]) == ("als", "als/alice", 2)
    assert predicate["image"] == "als/alice:v2"
    assert predicate["request"].items() >= {"id": second.id, "by": "alice", "via": "cli"}.items()
    assert predicate["request"]["message"] == "message of two"
    assert predicate["decision"]["by"] == "chief"
    assert predicate["base"] == {"name": world.image, "digest": base.id}
    assert predicate["parent"] == {"workspace": "als/alice", "version": 1, "digest": first.image_id}
    assert predicate["layers"] == list(second.diff_ids)
    assert predicate["size"] == second.size
    times = [predicate["request"]["at"], predicate["decision"]["at"], predicate["committedAt"]]
    assert times == sorted(times)
    assert all(time.endswith("Z") and len(time) == len("2026-01-02T03:04:05.678901Z") for time in times)
    assert payload(first)["predicate"]["parent"] is None


def test_it_lies_in_the_archive_too_and_is_verified(world: World, first: Snapshot, second: Snapshot) -> None:
    for snapshot in (first, second):
        attached = world.archive.attached(str(snapshot.manifest_digest))
        assert list(attached) == [SNAPSHOT_TYPE]
        assert world.archive.document(attached[SNAPSHOT_TYPE]).decode() == snapshot.statement
        for verdict in (record(world, snapshot.id), everything(world, snapshot.id)):
            assert verdict.problems == ()
            assert str(verdict) == f"signed by {world.signer.public.fingerprint}, verified"
    assert world.archive.verify().problems == ()


def test_signing_again_gives_the_same(world: World, first: Snapshot) -> None:
    before = world.archive.attached(str(first.manifest_digest))
    signer = Signer(world.root / "keys")
    again = proving.prove(world.store, world.archive, signer, first, str(first.manifest_digest))
    assert again == first.statement
    assert world.archive.attached(str(first.manifest_digest)) == before
    assert len(json.loads((world.archive.root / "index.json").read_text())["manifests"]) == 2


# public tools


def blocks(word: str) -> str:
    """The commands in docs/operations.md that have this word."""
    text = (Path(__file__).parents[1] / "docs" / "operations.md").read_text()
    [found] = [block for block in re.findall(r"(?ms)^```\w*\n(.*?)^```$", text) if word in block]
    return str(found)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_anybody_checks_it_as_the_documentation_says(world: World, second: Snapshot, tmp_path: Path) -> None:
    archive = world.archive.root
    (tmp_path / "find.sh").write_text(blocks("io.workspaces.subject").replace("als/alice:v1", "als/alice:v2"))
    subprocess.run(["sh", "-eu", tmp_path / "find.sh"], cwd=archive, check=True)
    (archive / "statement.json").rename(tmp_path / "statement.json")
    assert (tmp_path / "statement.json").read_text() == second.statement
    shutil.copy(world.root / "keys" / "provenance.pub", tmp_path)
    (tmp_path / "check.sh").write_text(blocks("DSSEv1"))
    command = ["sh", "-eu", "check.sh"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Signature Verified Successfully" in done.stdout
    assert world.signer.public.fingerprint.removeprefix("sha256:") in done.stdout
    assert json.loads((tmp_path / "payload").read_bytes()) == payload(second)
    other = json.loads(str(second.statement))
    other["payload"] = base64.b64encode(b"{}").decode()
    (tmp_path / "statement.json").write_text(json.dumps(other))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_other_tools_read_the_archive_as_before(world: World, second: Snapshot, tmp_path: Path) -> None:
    root = world.archive.root
    said = subprocess.run(["skopeo", "inspect", f"oci:{root}:als/alice:v2"], check=True, capture_output=True).stdout
    assert json.loads(said)["Digest"] == second.manifest_digest
    copy = ["skopeo", "copy", f"oci:{root}:als/alice:v1", f"oci:{tmp_path / 'copy'}:x"]
    subprocess.run(copy, check=True, capture_output=True)
    if shutil.which("umoci"):
        listed = subprocess.run(["umoci", "ls", "--layout", str(root)], check=True, capture_output=True, text=True)
        assert set(listed.stdout.split()) == {"als/alice:v1", "als/alice:v2"}


# an archive alone


def test_an_archive_alone_is_checked_with_the_hosts_public_key(world: World, second: Snapshot, tmp_path: Path) -> None:
    shutil.copy(world.root / "keys" / "provenance.pub", tmp_path / "their.pub")
    shutil.copytree(world.archive.root, tmp_path / "elsewhere")
    key, archive = PublicKey.read(tmp_path / "their.pub"), Archive(tmp_path / "elsewhere")
    verdict, said = snapshots.check_archived(archive, key, "als/alice:v2")
    assert (verdict.problems, said) == ((), payload(second))
    with pytest.raises(StatementError, match=f"not by {Signer(tmp_path / 'own').public.fingerprint}"):
        snapshots.check_archived(archive, Signer(tmp_path / "own").public, "als/alice:v2")


def test_a_statement_about_another_version_does_not_pass(world: World, first: Snapshot, second: Snapshot) -> None:
    world.archive.attach(str(first.manifest_digest), SNAPSHOT_TYPE, str(second.statement).encode())
    verdict, _ = snapshots.check_archived(world.archive, world.signer.public, "als/alice:v1")
    text = " ".join(verdict.problems)
    assert "about another image" in text
    assert f"The manifest {first.manifest_digest} was not signed for." in text
    assert "layers are others" in text
    assert "The statement in the archive is another one than the store's." in everything(world, first.id).problems


# tampering

FIELDS: dict[str, tuple[object, str]] = {
    "message": ("another", "predicate.request.message"),
    "requested_by": ("mallory", "predicate.request.by"),
    "requested_via": ("web", "predicate.request.via"),
    "requested_at": (1.5, "predicate.request.at"),
    "decided_by": ("mallory", "predicate.decision.by"),
    "decided_at": (1.5, "predicate.decision.at"),
    "version": (7, "predicate.version"),
    "parent_id": (None, "predicate.parent"),
    "image_ref": ("als/bob:v2", "predicate.image"),
    "image_id": ("sha256:" + "0" * 64, "subject[1].digest.sha256"),
    "manifest_digest": ("sha256:" + "0" * 64, "subject[0].digest.sha256"),
    "diff_ids": ('["sha256:00"]', "predicate.layers"),
    "size": (1, "predicate.size"),
    "committed_at": (1.5, "predicate.committedAt"),
}


@pytest.mark.parametrize("column", FIELDS)
def test_a_changed_record_shows(world: World, second: Snapshot, column: str) -> None:
    value, path = FIELDS[column]
    tamper(world, second.id, column, value)
    problems = record(world, second.id).problems
    assert [problem for problem in problems if problem.startswith(f"{path}: ")], problems
    assert str(record(world, second.id)).startswith("NOT VERIFIED: ")
    assert everything(world, second.id).problems


def test_a_changed_parent_shows(world: World, first: Snapshot, second: Snapshot) -> None:
    tamper(world, first.id, "image_id", "sha256:" + "1" * 64)
    [problem] = record(world, second.id).problems
    assert problem.startswith("predicate.parent.digest: ")


def test_every_change_of_the_envelope_shows(world: World, first: Snapshot) -> None:
    envelope = json.loads(str(first.statement))
    said = payload(first)
    said["predicate"]["request"]["by"] = "mallory"
    other = base64.b64encode(json.dumps(said).encode()).decode()
    signature = envelope["signatures"][0]
    forged = bytearray(base64.b64decode(signature["sig"]))
    forged[0] ^= 1
    changes: dict[str, tuple[Any, str]] = {
        "payload": ({**envelope, "payload": other}, "is not of these bytes"),
        "type": ({**envelope, "payloadType": "text/plain"}, "not an in-toto statement"),
        "signature": (
            {**envelope, "signatures": [{**signature, "sig": base64.b64encode(forged).decode()}]},
            "is not of these bytes",
        ),
        "none": ({**envelope, "signatures": []}, "0 signatures"),
        "two": ({**envelope, "signatures": [signature, {**signature, "keyid": "x"}]}, "2 signatures"),
        "key": ({**envelope, "signatures": [{**signature, "keyid": "ab"}]}, "signed by sha256:ab, not by"),
        "empty": ({}, "no DSSE envelope"),
    }
    for name, (changed, sentence) in changes.items():
        tamper(world, first.id, "statement", json.dumps(changed))
        [problem] = record(world, first.id).problems
        assert sentence in problem, name
    tamper(world, first.id, "statement", None)
    assert record(world, first.id).problems == (proving.UNSIGNED,)


def test_a_statement_that_somebody_else_signed_shows(world: World, first: Snapshot, tmp_path: Path) -> None:
    mallory = Signer(tmp_path / "mallory")
    signed = mallory.sign(base64.b64decode(json.loads(str(first.statement))["payload"]))
    tamper(world, first.id, "statement", signed.decode())
    [problem] = record(world, first.id).problems
    assert problem == f"It is signed by {mallory.public.fingerprint}, not by {world.signer.public.fingerprint}."


def damage_layer(world: World, first: Snapshot) -> None:
    flip(blob(world, world.archive.blobs_of(str(first.manifest_digest))[-1].digest))


def damage_config(world: World, first: Snapshot) -> None:
    flip(blob(world, str(first.image_id)))


def damage_manifest(world: World, first: Snapshot) -> None:
    flip(blob(world, str(first.manifest_digest)))


def damage_statement(world: World, first: Snapshot) -> None:
    [artifact] = world.archive.attached(str(first.manifest_digest)).values()
    flip(blob(world, world.archive.blobs_of(artifact)[-1].digest))


def lose_statement(world: World, first: Snapshot) -> None:
    index = world.archive.root / "index.json"
    value = json.loads(index.read_text())
    value["manifests"] = [entry for entry in value["manifests"] if "artifactType" not in entry]
    index.write_text(json.dumps(value))


def lose_layer(world: World, first: Snapshot) -> None:
    blob(world, world.archive.blobs_of(str(first.manifest_digest))[-1].digest).unlink()


def swap_image(world: World, first: Snapshot) -> None:
    """The name leads to another image now, whole in itself."""
    index = world.archive.root / "index.json"
    value = json.loads(index.read_text())
    names = {entry["annotations"].get("org.opencontainers.image.ref.name"): entry for entry in value["manifests"]}
    names["als/alice:v1"].update({key: names["als/alice:v2"][key] for key in ("digest", "size")})
    index.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_layer, ": A layer is not a whole gzip stream"),
        (damage_config, "is damaged"),
        (damage_manifest, "is damaged"),
        (damage_statement, "is damaged"),
        (lose_statement, "The archive has no statement about it."),
        (lose_layer, "is missing from the archive"),
        (swap_image, "The archive has no image"),
    ],
)
def test_a_changed_archive_shows(
    world: World,
    first: Snapshot,
    second: Snapshot,
    damage: Callable[[World, Snapshot], None],
    sentence: str,
) -> None:
    damage(world, first)
    problems = everything(world, first.id).problems
    assert sentence in " ".join(problems), problems
    assert record(world, first.id).problems == ()  # the database is as it was
    if damage is swap_image:
        with pytest.raises(NotFound):
            snapshots.check_archived(Archive(world.archive.root), world.signer.public, str(first.manifest_digest))


def test_damage_of_a_statement_is_found_by_archive_verify(world: World, first: Snapshot) -> None:
    damage_statement(world, first)
    [problem] = Archive(world.archive.root).verify().problems
    entries = json.loads((world.archive.root / "index.json").read_text())["manifests"]
    [artifact] = [entry["digest"] for entry in entries if "artifactType" in entry]
    assert problem.blob == json.loads(blob(world, artifact).read_text())["layers"][0]["digest"]
    assert "is damaged" in problem.sentence


# the key


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    signers = [Signer(tmp_path / "keys") for _ in range(8)]
    prints: list[str] = []
    threads = [threading.Thread(target=lambda s=signer: prints.append(s.public.fingerprint)) for signer in signers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(prints)) == 1
    assert len(prints) == 8
    assert stat.S_IMODE((tmp_path / "keys" / "provenance").stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"provenance", "provenance.pub"}
    public = PublicKey.read(tmp_path / "keys" / "provenance.pub")
    assert public.fingerprint == prints[0]
    der = base64.b64decode("".join(public.pem.decode().splitlines()[1:-1]))
    assert public.fingerprint == f"sha256:{hashlib.sha256(der).hexdigest()}"


def test_a_key_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    assert Signer(tmp_path).public
    path = tmp_path / "provenance"
    path.chmod(0o644)
    with pytest.raises(HostError, match="chmod 600"):
        _ = Signer(tmp_path).public
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(HostError, match="is damaged"):
        _ = Signer(tmp_path).public
    (tmp_path / "x.pub").write_text("ssh-ed25519 AAAA")
    with pytest.raises(InvalidInput, match="holds no ed25519 public key"):
        PublicKey.read(tmp_path / "x.pub")


def test_without_a_key_nothing_is_archived_and_a_retry_ends_it(world: World) -> None:
    keys = world.root / "keys"
    keys.mkdir(mode=0o700)
    (keys / "provenance").touch(0o600)
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.work()
    [job] = world.store.jobs(limit=1)
    assert "signing key" in str(job.error)
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED
    (keys / "provenance").unlink()
    world.signer = Signer(keys)
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert everything(world, snapshot.id).problems == ()


# hostile input

KEY_DIRECTORY = Path("keys")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PublicKey:
    return Signer(tmp_path_factory.mktemp("key")).public


@given(
    st.fixed_dictionaries({}, optional={"payload": JSON, "payloadType": JSON, "signatures": JSON}).map(json.dumps)
    | st.fixed_dictionaries(
        {
            "payload": st.just("e30=") | JSON,
            "payloadType": st.just("application/vnd.in-toto+json") | JSON,
            "signatures": st.lists(
                st.fixed_dictionaries({"keyid": st.text(max_size=5) | JSON, "sig": st.text(max_size=9) | JSON}),
                max_size=3,
            ),
        }
    ).map(json.dumps)
    | JSON.map(json.dumps)
    | st.text()
)
@example('{"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": null, "sig": ""}]}')
def test_any_envelope_is_opened_or_refused_in_a_sentence(key: PublicKey, text: str) -> None:
    with pytest.raises(StatementError):
        open_envelope(text.encode("utf-8", "surrogatepass"), key)


@given(JSON | st.binary(max_size=80).map(lambda data: base64.b64encode(data).decode()))
def test_any_signature_of_the_right_name_is_refused_in_a_sentence(key: PublicKey, signature: object) -> None:
    name = key.fingerprint.removeprefix("sha256:")
    signed = {"payload": "e30=", "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": name, "sig": signature}]}
    with pytest.raises(StatementError):
        open_envelope(json.dumps(signed).encode(), key)


@given(JSON, JSON)
@example({}, {"": None})
def test_two_statements_are_equal_or_differ(one: Any, two: Any) -> None:
    def statement(predicate: Any) -> bytes:
        return json.dumps({"_type": "https://in-toto.io/Statement/v1", "predicate": predicate}).encode()

    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    if same:
        assert differences(statement(one), statement(two)) == () or "NaN" in json.dumps(one)
    elif json.loads(json.dumps(one)) != json.loads(json.dumps(two)):
        assert differences(statement(one), statement(two))
