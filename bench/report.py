"""What a run says: on the terminal while it goes, and as a page of docs with each part's table between two marks.

The page's other text is kept: only what stands between a part's BEGIN and END is written anew.
"""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bench.peers import BARE, BARE_PAGE, COLUMNS, EXEC, FORCED, HAND, LEFT_OUT, PAGES, SLOWEST, VERSIONS
from bench.rows import Goal, Results, Row
from workspaces.errors import HostError

BEGIN = "<!-- what `make bench` found, {part}: begin -->"
END = "<!-- what `make bench` found, {part}: end -->"
PROGRAMS = ("dockerd", "docker")
# columns; ratios to these
TABLES = {
    "sessions": (COLUMNS, (FORCED, EXEC)),
    "versions": ((VERSIONS, HAND), (HAND,)),
    "web": ((PAGES, SLOWEST, BARE_PAGE), (BARE_PAGE,)),
}
OTHERS = (FORCED, EXEC, BARE, HAND, BARE_PAGE)  # whose ratio is said
PLOTS = {
    "ratios": "The gateway, docker exec and bare sshd, as times relative to sshd + docker exec",
    "bulk": "Throughput with each cipher",
    "crowd": "How many of the logins at once had ended after so many seconds",
    "memory": "Memory of an idle session",
}


def number(value: float | None) -> str:
    """Three digits, and a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def goal_text(row: Row, goal: Goal) -> str:
    """`≤ 0.3 × sshd + docker exec: reached`."""
    limit = f"≤ {goal.limit:g}" + (f" × {goal.than}" if goal.than else "") if goal.limit else "none"
    limit = f"{goal.of} {limit}" if goal.of else limit
    return f"{limit}: {({None: 'not known', True: 'reached', False: '**not reached**'})[row.reached(goal)]}"


def lines(rows: list[Row]) -> list[str]:
    """Rows for the terminal: this program's value, then every other peer's with the ratio to it."""
    said = []
    for row in rows:
        cells = []
        for name in (*COLUMNS, VERSIONS, HAND, PAGES, SLOWEST, BARE_PAGE):
            if name in row.values:
                ratio = row.ratio(name)
                other = name in OTHERS and row.unit != "×"
                of = f" ({ratio:.2f} ×)" if ratio is not None and other else ""
                cells.append(f"{name} {number(row.values[name])} {row.unit}{of}".rstrip())
        said.append(f"  {row.figure}, {row.way}: " + " · ".join(cells))
        said += [f"      {goal_text(row, goal).replace('**', '')}" for goal in row.goals]
    return said


def table(part: str, results: Results, plots: list[str]) -> str:
    """The markdown of one part of a run: machine, table, the plots of these names, what is missing and why."""
    text = [f"{machine()}.", "", *_rows(results.rows, *TABLES[part])]
    for name in plots:
        text += [f"![{PLOTS[name]}](bench/{name}.svg)", ""]
    text += [f"{figure} was not measured: {reason}" for figure, reason in results.failures.items()]
    if part == "sessions":
        text += [f"{peer} is left out: {reason}." for peer, reason in LEFT_OUT.items()]
    return "\n".join(text).strip()


def _rows(rows: list[Row], columns: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    """The lines of one table, with ratios to `others`, and an empty line; nothing without rows."""
    if not rows:
        return []
    head = ["figure", "way", *columns, *(f"÷ {name}" for name in others), "goal"]
    text = [_cells(head), _cells(["---"] * 2 + ["---:"] * (len(columns) + len(others)) + ["---"])]
    for row in rows:
        values = [
            f"{number(row.values.get(name))} {row.unit if name in row.values else ''}".strip() for name in columns
        ]
        ratios = [_ratio(row.ratio(name) if row.unit != "×" else None) for name in others]
        goals = "; ".join(goal_text(row, goal) for goal in row.goals)
        text.append(_cells([row.figure, row.way, *values, *ratios, goals]))
    return [*text, ""]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """When and on what this run was, in one line."""
    engine, tool = (_said([name, "--version"]).partition(" version ")[2].partition(",")[0] for name in PROGRAMS)
    client = _said(["ssh", "-V"]).partition(" ")[0].partition(",")[0]
    cores = len(os.sched_getaffinity(0))
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    python = platform.python_version()
    kernel = platform.release().partition("-")[0]
    return f"{day}, {cores} cores, Linux {kernel}, Docker {engine} (client {tool}), {client}, Python {python}"


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def place(page: Path, part: str) -> tuple[str, str]:
    """What stands up to and from the marks of a part in `page`. Raises HostError when it has no place for its table."""
    begin, end = BEGIN.format(part=part), END.format(part=part)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, found, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    if not found or not ends:
        raise HostError(f"{page} has no place for the table.", f"Put in two lines: {begin} and {end}")
    return before + begin, end + after


def write(page: Path, part: str, results: Results, plots: list[str]) -> None:
    """Put table and plots into their place in `page`, and keep the rest. Raises HostError when there is none."""
    before, after = place(page, part)
    page.write_text(f"{before}\n{table(part, results, plots)}\n{after}", encoding="utf-8")
