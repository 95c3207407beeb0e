"""Room for a keyring of each container, and the host's limits put back afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspaces.engine import keyrings


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's limits, as a Debian has them."""
    monkeypatch.setattr(keyrings, "LIMITS", tmp_path)
    monkeypatch.setattr(keyrings, "RUN_DIR", tmp_path / "run")
    (tmp_path / "maxkeys").write_text("200\n")
    (tmp_path / "maxbytes").write_text("20000\n")
    return tmp_path


def limits(kernel: Path) -> list[int]:
    return [int((kernel / name).read_text()) for name in ("maxkeys", "maxbytes")]


def test_room_is_made_and_given_back(kernel: Path) -> None:
    assert keyrings.allowed() == 200
    for _ in range(2):
        keyrings.make_room()
        assert limits(kernel) == [20_000, 2_000_000]
    keyrings.restore()
    assert limits(kernel) == [200, 20_000]
    keyrings.restore()
    assert limits(kernel) == [200, 20_000]


def test_what_is_enough_is_left_alone_and_what_somebody_changed_as_well(kernel: Path) -> None:
    (kernel / "maxbytes").write_text("25000000")
    keyrings.make_room()
    assert limits(kernel) == [20_000, 25_000_000]
    (kernel / "maxkeys").write_text("50000")
    keyrings.restore()
    assert limits(kernel) == [50_000, 25_000_000]


def test_a_kernel_without_them_needs_none(kernel: Path) -> None:
    for name in ("maxkeys", "maxbytes"):
        (kernel / name).unlink()
    assert keyrings.allowed() is None
    keyrings.make_room()
    keyrings.restore()
