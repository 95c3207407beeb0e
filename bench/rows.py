"""What was measured: rows of one figure, and the goals that a row has.

A row's values are by peer; lower is better in every row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.peers import GATEWAY, PAGES, VERSIONS

OURS = (GATEWAY, VERSIONS, PAGES)


@dataclass(frozen=True, slots=True)
class Goal:
    """This program's value is to be at most `limit` times that of `than`; without `than`, at most `limit` itself.

    `of` names another of the row's values that is meant.
    """

    limit: float
    than: str | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `values` in `unit` by peer, `way` what was asked of the client or of the session."""

    figure: str
    way: str
    unit: str
    values: dict[str, float]
    goals: tuple[Goal, ...] = ()

    @property
    def mine(self) -> float | None:
        """This program's value: the gateway's, that of its versions, or of its pages."""
        return next((self.values[name] for name in OURS if name in self.values), None)

    def ratio(self, other: str) -> float | None:
        """This program's value over another's, None when either is absent or the other is nothing."""
        mine, theirs = self.mine, self.values.get(other)
        return mine / theirs if mine is not None and theirs else None

    def reached(self, goal: Goal) -> bool | None:
        """Whether the goal is reached; None when this run does not tell."""
        mine = self.values.get(goal.of) if goal.of else self.mine
        found = self.ratio(goal.than) if goal.than else mine
        return None if found is None else found <= goal.limit


@dataclass(slots=True)
class Results:
    """All that one run found. `curves`: the seconds after which each of many logins had ended, by way and peer."""

    rows: list[Row] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # figure → why it has no row

    def row(self, figure: str, way: str) -> Row | None:
        """The row of that name."""
        return next((row for row in self.rows if (row.figure, row.way) == (figure, way)), None)
