"""Streams: read as a file, and checked on the way."""

from __future__ import annotations

import io
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.errors import Corrupt
from workspaces.streams import Chunks, checked

WRONG = Corrupt("other bytes")


def digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(0, 30)))
def test_reads_are_those_of_the_bytes_in_one_piece(chunks: list[bytes], sizes: list[int]) -> None:
    file, whole = Chunks(chunks), io.BytesIO(b"".join(chunks))
    assert [file.read(size) for size in sizes] == [whole.read(size) for size in sizes]
    assert file.tell() == whole.tell()
    assert io.BufferedReader(Chunks(chunks), 7).read() == whole.getvalue()


def test_it_goes_forward_only() -> None:
    file = Chunks([b"abc", b"def"])
    assert file.seek(4) == 4
    assert file.read(1) == b"e"
    for place, whence in ((0, io.SEEK_SET), (0, io.SEEK_END)):
        with pytest.raises(io.UnsupportedOperation):
            file.seek(place, whence)


@pytest.mark.parametrize("size", [6, None])
def test_right_bytes_pass(size: int | None) -> None:
    assert list(checked([b"abc", b"", b"def"], digest(b"abcdef"), size, WRONG)) == [b"abc", b"", b"def"]


@pytest.mark.parametrize(
    ("chunks", "size", "passed"),
    [
        ([b"abc", b"dex"], 6, 2),
        ([b"abc", b"dex"], None, 2),
        ([b"abc"], 6, 1),
        ([b"abc", b"def", b"g", b"h"], 6, 2),
    ],
    ids=["others", "others, of any number", "too few", "too many"],
)
def test_other_bytes_are_told_and_no_more_pass_than_are_wanted(
    chunks: list[bytes], size: int | None, passed: int
) -> None:
    stream = checked(chunks, digest(b"abcdef"), size, WRONG)
    assert [next(stream) for _ in range(passed)] == chunks[:passed]
    with pytest.raises(Corrupt, match="other bytes"):
        next(stream)
