"""How a report of changes looks on a terminal."""

from __future__ import annotations

from collections import Counter

import click

from workspaces.cli.common import when
from workspaces.model import ChangeReport, PackageChange
from workspaces.names import amount, printable
from workspaces.snapshots.tree import SIGNS, fold, lines, marks

ROWS = 40  # of the tree
EACH = 12  # in one directory
PACKAGES = 20


def print_changes(report: ChangeReport, everything: bool) -> None:
    """Totals, warnings, packages, what is not captured, and the tree; with `everything`, each path instead."""
    counts = f"{report.added} added, {report.changed} changed, {report.removed} removed"
    if report.countless:
        counts = "countless paths changed"
    click.echo(f"since {report.since}, as of {when(report.at)}: {counts}, {amount(report.bytes)}")
    for warning in report.warnings:
        click.echo(f"  warning: {printable(warning, 2000)}")
    _print_packages(report, len(report.packages) if everything else PACKAGES)
    if report.not_captured:
        click.echo("not captured:")
        for text in report.not_captured:
            click.echo(f"  {printable(text, 300)}")
    if everything:
        _print_paths(report)
    elif report.entries or report.unlisted:
        click.echo("changed (every path: --all):")
        for line in lines(fold(report, rows=ROWS, each=EACH)):
            click.echo(line)


def _print_packages(report: ChangeReport, most: int) -> None:
    if not report.packages:
        return
    kinds = Counter(_sign(package) for package in report.packages)
    counts = ", ".join(f"{kinds[sign]} {kind}" for kind, sign in SIGNS.items() if kinds[sign])
    click.echo(f"packages since {report.packages_since}: {counts}")
    for package in report.packages[:most]:
        versions = " → ".join(printable(v, 80) for v in (package.before, package.after) if v is not None)
        click.echo(f"  {_sign(package)} {package.system:5} {printable(package.name, 120)} {versions}")
    if len(report.packages) > most:
        click.echo(f"  … and {len(report.packages) - most:,} more: --all")


def _print_paths(report: ChangeReport) -> None:
    told = marks(report)
    for change in report.entries:
        what = f"  [{printable('; '.join(told[change.path]), 200)}]" if change.path in told else ""
        click.echo(f"  {change.kind:8}{amount(change.size):>11}  {printable(change.path, 4096)}{what}")
    for rest in report.unlisted:
        click.echo(f"  {rest.count:,} more{amount(rest.size):>11}  below {printable(rest.path, 4096)}")


def _sign(package: PackageChange) -> str:
    kind = "added" if package.before is None else "removed" if package.after is None else "changed"
    return SIGNS[kind]
