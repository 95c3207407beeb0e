"""Deltas and flattened layers, against a file system of the tests' own and an unpacker of the tests' own."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.savetar import pack
from workspaces.errors import Conflict, Corrupt
from workspaces.layers import Layer, Node, Spool, Tree, compare, indexfile, plan, read, reading, stack, tar, tree
from workspaces.layers.node import DIRECTORY, FILE, place


@dataclass(eq=False)
class Inode:
    """What hard links share. `kind` is tarfile's type."""

    kind: bytes
    mode: int = 0o644
    owner: int = 0
    mtime: int = 1_700_000_000
    data: bytes = b""
    target: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)

    def facts(self) -> tuple[object, ...]:
        return self.kind, self.mode, self.owner, self.mtime, self.data, self.target, tuple(self.xattrs.items())


Files = dict[str, Inode]


def parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def under(files: Files, top: str) -> list[str]:
    return [path for path in files if path.startswith(f"{top}/")]


def facts(files: Files) -> object:
    """What two equal file systems have in common: every path's facts, and which paths are one file."""
    linked: dict[int, list[str]] = {}
    for path, inode in sorted(files.items()):
        linked.setdefault(id(inode), []).append(path)
    return {path: inode.facts() for path, inode in files.items()}, sorted(p for p in linked.values() if len(p) > 1)


def layer_of(base: Files, files: Files, extra: set[str], opaque: set[str]) -> bytes:
    """As an overlay's upper directory gives it: what differs from `base`, `extra` that was only copied up, and of the
    directories `opaque` everything."""
    names: dict[int, set[str]] = {}
    for path, inode in files.items():
        names.setdefault(id(inode), set()).add(path)
    was: dict[int, set[str]] = {}
    for path, inode in base.items():
        was.setdefault(id(inode), set()).add(path)
    out = {p for p, i in files.items() if p not in base or base[p].facts() != i.facts() or p in extra}
    hidden = {path for path in opaque if path in files and files[path].kind == tarfile.DIRTYPE}
    out |= hidden
    for top in hidden:
        out |= set(under(files, top))
    for path, inode in files.items():
        if path in base and names[id(inode)] != was[id(base[path])] & files.keys():
            out |= names[id(inode)] | (was[id(base[path])] & files.keys())
    for path in list(out):
        out |= names[id(files[path])]
    gone = {
        p
        for p in base
        if p not in files and not any(a not in files or a in hidden or files[a].kind != b"5" for a in parents(p))
    }
    for path in [*out, *gone]:
        out |= set(parents(path))
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    first: dict[int, str] = {}
    for path in sorted(out | gone, key=lambda p: p.split("/")):
        if path in gone:
            directory, _, name = path.rpartition("/")
            members.append((tarfile.TarInfo(f"{directory}/.wh.{name}".lstrip("/")), b""))
            continue
        inode = files[path]
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.uid, info.gid, info.mtime = inode.kind, inode.mode, inode.owner, 7, inode.mtime
        info.linkname = inode.target
        info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in inode.xattrs.items()}
        if id(inode) in first and inode.kind != tarfile.DIRTYPE:
            info.type, info.linkname = tarfile.LNKTYPE, first[id(inode)]
            members.append((info, b""))
            continue
        first[id(inode)] = path
        members.append((info, inode.data))
        if path in hidden:
            members.append((tarfile.TarInfo(f"{path}/.wh..wh..opq"), b""))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as out_tar:
        for info, data in members:
            info.size = len(data)
            out_tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpack(*layers: bytes) -> Files:
    """What an engine makes of layers, as the OCI specification says: whiteouts first, then entries; links are kept."""
    files: Files = {}
    for data in layers:
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as opened:
            found = [(m, opened.extractfile(m).read() if m.isreg() else b"") for m in opened]  # type: ignore[union-attr]
        for member, _ in found:
            directory, _, name = member.name.rpartition("/")
            if name == ".wh..wh..opq":
                for path in under(files, directory):
                    del files[path]
            elif name.startswith(".wh."):
                top = f"{directory}/{name[4:]}".lstrip("/")
                for path in [top, *under(files, top)]:
                    files.pop(path, None)
        names = {member.name for member, _ in found}
        for above in {a for name in names for a in parents(name)} - names:
            files[above] = Inode(b"5", 0o755, mtime=0)  # as an engine makes one that the layer lacks, on an overlay
        for member, content in found:
            if "/.wh." in f"/{member.name}":
                continue
            path = member.name
            assert all(a in files and files[a].kind == b"5" for a in parents(path)), f"{path}: no directory for it"
            if path in files and not (files[path].kind == b"5" and member.isdir()):
                for other in [path, *under(files, path)]:
                    del files[other]
            if member.islnk():
                files[path] = files[member.linkname]
                continue
            xattrs = {k[13:]: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
            assert member.gid == 7
            files[path] = Inode(
                member.type, member.mode, member.uid, int(member.mtime), content, member.linkname, xattrs
            )
    return files


def delta(directory: Path, old: list[bytes], new: list[bytes]) -> tuple[bytes, Layer]:
    """The layer that makes `new` of `old`, by the code under test, and its index."""
    with Spool(directory) as spool:
        before = stack([read([data]) for data in old])
        after = stack([read([data], lambda path, node: spool.write, spool.keep) for data in new])
        found = plan(before, after)
        data = b"".join(tar(found, spool.read))
        assert data == b"".join(tar(plan(before, after), spool.read))
        return data, found.layer()


NAMES = ("a", "b", "a-b", "ü\udcff")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


@st.composite
def edited(draw: st.DrawFn, files: Files) -> Files:
    """`files` after a few random actions; the one given stays as it is."""
    copies: dict[int, Inode] = {}
    now: Files = {}
    for path, inode in files.items():
        if id(inode) not in copies:
            copies[id(inode)] = replace(inode, xattrs=dict(inode.xattrs))
        now[path] = copies[id(inode)]
    for _ in range(draw(st.integers(0, 6))):
        path = draw(PATHS)
        action = draw(st.sampled_from(["file", "dir", "link", "fifo", "hardlink", "remove", "chmod", "write", "move"]))
        if any(a in now and now[a].kind != b"5" for a in parents(path)):
            continue
        if action in ("file", "dir", "link", "fifo", "hardlink") or (action == "move" and path not in now):
            source = draw(st.sampled_from(sorted(now))) if now else ""
            if action in ("hardlink", "move") and (not source or now[source].kind == b"5" or source == path):
                continue
            made = now[source] if action in ("hardlink", "move") else None
            if action == "move":
                del now[source]
            for other in [path, *under(now, path)]:
                now.pop(other, None)
            for above in parents(path):
                now.setdefault(above, Inode(b"5", 0o755))
            if made is None:
                kind = {"file": b"0", "dir": b"5", "link": b"2", "fifo": b"6"}[action]
                made = Inode(kind, target="x" if action == "link" else "", data=b"1" if action == "file" else b"")
            now[path] = made
        elif action == "remove":
            for other in [path, *under(now, path)]:
                now.pop(other, None)
        elif path in now and action == "chmod":
            now[path].mode = draw(st.sampled_from([0o600, 0o4755, 0o644]))
            now[path].owner = draw(st.sampled_from([0, 1000, 3_000_000]))
        elif path in now and action == "write" and now[path].kind == b"0":
            now[path].data = draw(st.sampled_from([b"1", b"2", b"x" * 600]))
            now[path].mtime += draw(st.integers(0, 1))
            now[path].xattrs = draw(st.sampled_from([{}, {"security.capability": "\x01\udcff\x00"}]))
    return now


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Files], list[bytes]]:
    """A base and what its container was at each commit; the base's layer, and each commit's since the base."""
    states = [draw(edited({}))]
    layers = [layer_of({}, states[0], set(), set())]
    for _ in range(draw(st.integers(1, 4))):
        states.append(draw(edited(states[-1])))
        some = st.sets(st.sampled_from(sorted(states[-1]) or ["none"]), max_size=3)
        layers.append(layer_of(states[0], states[-1], draw(some) & states[-1].keys(), draw(some)))
    return states, layers


@given(histories())
@settings(max_examples=60, deadline=None)
def test_deltas_give_the_same_files_as_layers_since_the_base(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[list[Files], list[bytes]]
) -> None:
    states, (base, *cumulative) = history
    directory = tmp_path_factory.getbasetemp()
    versions = [base]
    for state, layer in zip(states[1:], cumulative, strict=True):
        assert facts(unpack(base, layer)) == facts(state), "the test's own layers are wrong"
        made, index = delta(directory, versions, [base, layer])
        assert facts(unpack(*versions, made)) == facts(state)
        assert tree_facts(stack([read([made])])) == tree_facts(stack([index]))
        nothing, _ = delta(directory, [*versions, made], [base, layer])
        assert nothing == bytes(1024)
        versions.append(made)
    flat, _ = delta(directory, [base], versions)
    assert facts(unpack(base, flat)) == facts(states[-1])


def tree_facts(tree: Tree) -> object:
    return tree.nodes, {path: group for path, (_, group) in tree.groups.items()}


@given(histories())
@settings(max_examples=60, deadline=None)
def test_an_index_file_has_all_of_an_index(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[list[Files], list[bytes]]
) -> None:
    directory = tmp_path_factory.getbasetemp() / "indexes"
    for data in history[1]:
        layer = read([data])
        diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
        indexfile.save(directory, diff_id, layer)
        assert indexfile.load(directory, diff_id) == layer


@pytest.mark.parametrize("harm", ["cut", "flip", "other", "none"])
def test_a_damaged_index_file_is_none(tmp_path: Path, harm: str) -> None:
    layer = Layer({"a": Node(FILE, 0o644, 0, 0, 3, 5, "", (), b"x" * 32), "b": Node(DIRECTORY, 0o755, 0, 0)})
    indexfile.save(tmp_path, "sha256:aa", layer)
    [file] = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(data[:-9])
    elif harm == "flip":
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    elif harm == "other":
        file.rename(tmp_path / "bb.index")
    found = indexfile.load(tmp_path, "sha256:bb" if harm == "other" else "sha256:aa")
    assert found == (layer if harm == "none" else None)


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **headers: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.pax_headers = kind, target, headers
    return member


@pytest.mark.parametrize(
    "data",
    [
        b"no tar" * 200,
        pack([(info("a/../../b"), b"x")]),
        pack([(info("a", tarfile.LNKTYPE, "missing"), b"")]),
        pack([(info("a"), b"x" * 5000)])[:2048],
        pack([(info("a", b"V"), b"")]),
        pack([(info("a"), b"x")])[:1024] + b"x" * 512 + pack([(info("b"), b"x")]),
    ],
)
def test_what_no_engine_writes_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        read([data])


def test_chunks_may_be_of_any_size() -> None:
    data = pack([(info("a"), b"x" * 1024), (info("b"), b"")])
    whole = read([data])
    assert read([b"", data[:1], b"", data[1:1500], b"", data[1500:]]) == whole
    assert list(whole.entries) == ["a", "b"]


@given(st.lists(st.text("ab./\x01\udcff", min_size=1).filter(lambda text: "//" not in f"/{text}/")))
def test_paths_are_in_the_order_of_their_parts(paths: list[str]) -> None:
    assert sorted(paths, key=place) == sorted(paths, key=lambda path: path.split("/"))


def test_what_lies_in_a_directory_that_deletes_is_in_no_layer() -> None:
    with pytest.raises(Corrupt):
        read([pack([(info("d/.wh.x/y"), b"1")])])


def test_long_names_are_bounded_as_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_NAMES", 1000)
    monkeypatch.setattr(tree, "MAX_NAMES", 1500)
    link = info("a")
    link.type, link.linkname = tarfile.SYMTYPE, "x" * 999
    one = read([pack([(link, b"")])])
    with pytest.raises(Conflict):
        read([pack([(info("a"), b""), (info("b" * 1000), b"")])])
    link.linkname += "x"
    with pytest.raises(Conflict):
        read([pack([(link, b"")])])
    link.linkname = "y" * 600
    other = read([pack([(link, b"")])])
    assert stack([one, other]).nodes == other.entries, "what is replaced does not count"
    other.entries["b"] = other.entries.pop("a")
    with pytest.raises(Conflict):
        stack([one, other])


def test_a_time_that_is_none_is_taken_as_zero() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(info("a", mtime="1e999999999"))
        opened.addfile(info("b", mtime="nan"))
        opened.addfile(info("c", mtime="1700000000.123456789"))
    layer = read([buffer.getvalue()])
    assert [node.mtime for node in layer.entries.values()] == [0, 0, 1_700_000_000_123_456_789]


def test_times_with_a_fraction_are_exact_and_compared_to_the_second(tmp_path: Path) -> None:
    node = Node(FILE, 0o644, 0, 0, 0, 1_700_000_000_123_456_789, "", (), hashlib.sha256(b"").digest())
    found = plan(Tree(), Tree({"a": node}))
    with Spool(tmp_path) as spool:
        spool.keep(node.digest)
        assert read(tar(found, spool.read)).entries == {"a": node}
    assert not plan(Tree({"a": node}), Tree({"a": node._replace(mtime=1_700_000_000_000_000_000)}))


def test_compare_says_what_differs() -> None:
    one = read(
        [pack([(info(n), b"1") for n in ("same", "content", "mode", "owner", "type")] + [(info("d", b"5"), b"")])]
    )
    one.entries |= {"d/x": one.entries["same"]._replace(size=5), "d/y": one.entries["same"]._replace(size=7)}
    new = dict(one.entries)
    new["content"] = new["content"]._replace(size=9, digest=b"y" * 32)
    new["mode"] = new["mode"]._replace(mode=0o600, mtime=10**9)
    new["owner"] = new["owner"]._replace(uid=5)
    new["type"] = Node(DIRECTORY, 0o755, 0, 0)
    new["new"] = new["same"]
    for path in ("d", "d/x", "d/y"):
        del new[path]
    found = [(c.kind, c.path, c.size, c.what) for c in compare(stack([one]), Tree(new))]
    assert found == [
        ("changed", "/content", 9, ("content",)),
        ("removed", "/d", 12, ()),
        ("changed", "/mode", 1, ("mode", "time")),
        ("added", "/new", 1, ()),
        ("changed", "/owner", 1, ("owner",)),
        ("changed", "/type", 0, ("type",)),
    ]
