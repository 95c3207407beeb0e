"""Plots of one run as SVG: the same input gives the same bytes; legible on a light and on a dark page.

Text stays text, backgrounds are transparent, and lines and letters have a grey that stands out from white and black.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers import BARE, CIPHERS, COLUMNS, DEFAULTS, EXEC, FORCED, GATEWAY, PINNED, ciphered
from bench.rows import Results

GREY = "#808890"
COLOURS = {GATEWAY: "#2f81f7", FORCED: "#d9772b", EXEC: "#8b949e", BARE: "#3fa45b"}
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "workspaces",
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(directory: Path, results: Results) -> list[Path]:
    """Draw what the results have figures for; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    with mpl.rc_context(SETTINGS):
        for name, plot in (("ratios", _ratios), ("bulk", _bulk), ("crowd", _crowd), ("memory", _memory)):
            figure = Figure(layout="constrained")
            if plot(figure, results):
                path = directory / f"{name}.svg"
                figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
                found.append(path)
    return found


def _bars(axes: Axes, labels: list[str], values: dict[str, list[float | None]]) -> None:
    """Horizontal bars, a group for each label, in the order of reading."""
    height = 0.8 / max(1, len(values))
    for index, (name, row) in enumerate(values.items()):
        places = [number + (index - (len(values) - 1) / 2) * height for number in range(len(labels))]
        bars = axes.barh(places, [value or 0 for value in row], height * 0.9, color=COLOURS[name], label=name)
        axes.bar_label(bars, [f"{value:.3g}" if value is not None else "" for value in row], padding=2, fontsize=7)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _ratios(figure: Figure, results: Results) -> bool:
    """Every time that was taken with the pinned algorithms, relative to sshd + docker exec."""
    times, other = ("ms", "µs", "s", "s/GB"), (DEFAULTS.name, *(ciphered(cipher).name for cipher in CIPHERS[1:]))
    rows = [
        row
        for row in results.rows
        if row.unit in times and row.way not in other and {GATEWAY, FORCED} <= set(row.values)
    ]
    if not rows:
        return False
    figure.set_size_inches(8, 1 + 0.5 * len(rows))
    axes = figure.subplots()
    values: dict[str, list[float | None]] = {}
    for name in (GATEWAY, EXEC, BARE):
        values[name] = [row.values[name] / row.values[FORCED] if name in row.values else None for row in rows]
    _bars(axes, [f"{row.figure}, {row.way}" for row in rows], values)
    axes.axvline(1, color=COLOURS[FORCED], linewidth=1, label=FORCED)
    axes.set_xlabel(f"time relative to {FORCED}, algorithms pinned; shorter is better")
    figure.legend(loc="outside upper center", ncols=4)
    return True


def _bulk(figure: Figure, results: Results) -> bool:
    """MB/s with each cipher, down and up."""
    rows = [row for row in results.rows if " MB " in row.figure and row.unit == "s"]
    if not rows:
        return False
    figure.set_size_inches(8, 1 + 0.5 * len(rows))
    axes = figure.subplots()
    values: dict[str, list[float | None]] = {}
    for name in COLUMNS:
        values[name] = [float(row.figure.split()[0]) / row.values[name] if name in row.values else None for row in rows]
    _bars(axes, [f"{row.figure}, {row.way}" for row in rows], values)
    axes.set_xlabel("MB/s; longer is better")
    figure.legend(loc="outside upper center", ncols=4)
    return True


def _crowd(figure: Figure, results: Results) -> bool:
    """How many logins had ended after so many seconds."""
    curves = results.curves.get(PINNED.name)
    if not curves:
        return False
    figure.set_size_inches(8, 3)
    axes = figure.subplots()
    for name, seconds in curves.items():
        axes.step([0, *seconds], range(len(seconds) + 1), where="post", color=COLOURS[name], label=name)
    axes.set_xlabel("seconds since all began")
    axes.set_ylabel("logins that ended")
    axes.legend(loc="lower right")
    return True


def _memory(figure: Figure, results: Results) -> bool:
    """MB of each idle session."""
    row = next((row for row in results.rows if row.unit == "MB"), None)
    if row is None:
        return False
    figure.set_size_inches(8, 1.2)
    axes = figure.subplots()
    names = [name for name in COLUMNS if name in row.values]
    bars = axes.barh(names, [row.values[name] for name in names], color=[COLOURS[name] for name in names])
    axes.bar_label(bars, [f"{row.values[name]:.3g}" for name in names], padding=2, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("MB of each idle session; shorter is better")
    return True
