"""`python -m bench`: starts all that is compared, measures in turns, prints ratios, removes all again.

Status 0 when every figure was measured, 1 when one failed; a goal that is not reached is said and fails nothing,
since a busy machine misses it too. A part of the docs is written when all its figures were measured in the run, with
what failed in it.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import click

from bench import figures, plots, report, sessions, versions, web
from bench.figures import FULL, QUICK, Figure
from bench.peers import LEFT_OUT
from bench.rows import Results
from bench.turns import Failed
from bench.webworld import WebWorld, web_world
from bench.world import World, world
from tests.support import bigstore
from workspaces.demo.clients import StepFailed
from workspaces.errors import WorkspacesError

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = "performance.md"
# In this order: memory first, while the servers are fresh.
SESSIONS: dict[str, Figure] = {
    "idle": sessions.idle,
    "true": figures.true,
    "prompt": figures.prompt,
    "echo": figures.echo,
    "flood": figures.flood,
    "rsync": figures.rsync,
    "sftp": figures.sftp,
    "crowd": sessions.crowd,
    "bulk": figures.bulk,
}
VERSIONS: dict[str, Figure] = {
    "snapshot": versions.snapshot,
    "versions": versions.versions,
    "freeze": versions.freeze,
}
WEB: dict[str, Callable[[WebWorld, figures.Size, Results], None]] = {
    "pages": web.pages,
    "readers": web.crowd,
    "live": web.live,
}
PARTS: dict[str, Mapping[str, Callable[[Any, figures.Size, Results], None]]] = {
    "web": WEB,  # by itself, before there is an engine
    "sessions": SESSIONS,
    "versions": VERSIONS,
}
FIGURES = {name: figure for its in PARTS.values() for name, figure in its.items()}


def measure(on: World | WebWorld, names: tuple[str, ...], size: figures.Size) -> Results:
    """Measure each figure in turn, saying what it found; one that fails is noted, and the next begins."""
    results = Results()
    for name in names:
        begun, had = time.monotonic(), len(results.rows)
        try:
            FIGURES[name](on, size, results)
        except Exception as problem:  # whatever it is, the other figures are still worth having
            known = isinstance(problem, Failed | OSError | SubprocessError | WorkspacesError)
            del results.rows[had:]
            results.failures[name] = str(problem) if known else repr(problem)
            click.echo(f"[{time.monotonic() - begun:6.1f} s] FAILED: {name}: {results.failures[name]}")
            continue
        click.echo(f"[{time.monotonic() - begun:6.1f} s] {name}: {(FIGURES[name].__doc__ or '').splitlines()[0]}")
        for line in report.lines(results.rows[had:]):
            click.echo(line)
    return results


@click.command()
@click.option(
    "--only", "names", multiple=True, type=click.Choice(list(FIGURES)), help="Measure this figure; repeatable."
)
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works, and little about speed.")
@click.option("--docs", type=click.Path(path_type=Path), help="Write table and plots below this directory.")
def main(names: tuple[str, ...], quick: bool, docs: Path | None) -> None:
    """Measure gateway, versions and pages against what people would use instead."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    names = names or tuple(FIGURES)
    into, writes = docs or DOCS, docs is not None or not quick
    whole = [part for part, its in PARTS.items() if writes and set(its) <= set(names)]
    found: dict[str, Results] = {}
    begun = time.monotonic()
    try:
        for part in whole:
            report.place(into / PAGE, part)
        wanted = {part: tuple(name for name in its if name in names) for part, its in PARTS.items()}
        size = QUICK if quick else FULL
        if wanted["web"]:
            with web_world(click.echo, bigstore.SMALL if quick else bigstore.FULL) as pages:
                found["web"] = measure(pages, wanted["web"], size)
        if wanted["sessions"] or wanted["versions"]:
            with world(click.echo) as on:
                for part in ("sessions", "versions"):
                    found[part] = measure(on, wanted[part], size)
    except (WorkspacesError, StepFailed, Failed, OSError, SubprocessError) as problem:
        raise click.ClickException(str(problem)) from problem
    for peer, reason in LEFT_OUT.items() if found.keys() != {"web"} else ():
        click.echo(f"  {peer} is left out: {reason}.")
    click.echo(f"{time.monotonic() - begun:.0f} s. Nothing is left behind.")
    for part in whole:
        drawn = plots.draw(into / "bench", found[part]) if part == "sessions" else []
        report.write(into / PAGE, part, found[part], [path.stem for path in drawn])
        click.echo(f"Written: {part} in {into / PAGE}")
    sys.exit(1 if any(results.failures for results in found.values()) else 0)


if __name__ == "__main__":
    main()
