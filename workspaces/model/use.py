"""What workspaces and the host use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a workspace: mean cores and bytes over the network since the look before, the rest at that moment."""

    cpus: float
    memory: int
    pids: int
    disk: int | None  # bytes written over its image, as last known
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a workspace used from `at` on for `seconds`, from `samples` looks: means, and the `most` of them.

    In cores and bytes. A time in which it did not run has no samples, and so no Usage.
    """

    at: float
    seconds: int
    samples: int
    cpus: float
    cpus_most: float
    memory: int
    memory_most: int
    pids_most: int
    disk: int | None
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one moment, but `cpus`, which were busy on average since the look before.

    `disk` is of the fuller of the file systems of the state directory and of the engine. `load` is that of one minute.
    """

    cpus: float
    cores: int
    memory: int
    memory_total: int
    disk: int
    disk_total: int
    load: float


@dataclass(frozen=True, slots=True)
class HostUsage:
    """What the host used from `at` on for `seconds`, as with Usage; the totals are the last ones seen."""

    at: float
    seconds: int
    samples: int
    cpus: float
    cpus_most: float
    cores: int
    memory: int
    memory_most: int
    memory_total: int
    disk: int
    disk_total: int
    load: float
