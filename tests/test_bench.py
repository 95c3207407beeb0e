"""The measurements' own parts: turns, accounting, table and plots. What they measure is in test_bench_docker."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from bench import __main__ as program
from bench import plots, report, turns
from bench.figures import QUICK
from bench.peers import BARE, BARE_PAGE, EXEC, FORCED, GATEWAY, HAND, PAGES, PINNED, SLOWEST, VERSIONS
from bench.rows import Goal, Results, Row
from bench.servers import Servers
from bench.turns import Client, Failed, at_once, in_turns, timed
from tests.support.engines import until
from workspaces.errors import HostError

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def results() -> Results:
    values = {GATEWAY: 26.0, FORCED: 342.0, EXEC: 69.8, BARE: 283.0}
    return Results(
        [
            Row("ssh … true", PINNED.name, "ms", values, (Goal(0.8, EXEC), Goal(0.05, FORCED))),
            Row("500 MB down", "aes128-gcm", "s", {GATEWAY: 3.5, FORCED: 8.2}),
            Row("500 idle sessions, memory of each", PINNED.name, "MB", {GATEWAY: 0.3, FORCED: 9.1}),
        ],
        {PINNED.name: {GATEWAY: [0.1, 0.2, 0.4], FORCED: [1.0, 2.0, 3.0]}},
        {"rsync": "status 12"},
    )


def test_every_round_has_every_task_once_and_begins_with_another() -> None:
    ran: list[str] = []

    def task(name: str) -> int:
        ran.append(name)
        return len(ran)

    found = in_turns({name: partial(task, name) for name in "abc"}, 2)
    assert "".join(ran) == "abc" + "abc" + "bca"
    assert found == {"a": [4, 9], "b": [5, 7], "c": [6, 8]}


def test_a_goal_is_a_ratio_in_one_run() -> None:
    row = results().rows[0]
    assert [row.reached(goal) for goal in row.goals] == [True, False]
    assert Row("x", "y", "s", {GATEWAY: 1.0}).reached(Goal(0.5, FORCED)) is None
    assert Row("failed", "y", "", {GATEWAY: 1.0}).reached(Goal(0)) is False


def test_versions_have_a_table_of_their_own() -> None:
    row = Row("snapshot", "committed and archived", "s", {VERSIONS: 3.0, HAND: 4.0}, (Goal(1.5, HAND), Goal(2)))
    assert [row.reached(goal) for goal in row.goals] == [True, False]
    text = report.table("versions", Results([row]), [])
    assert "left out" not in text
    assert "| figure | way | workspaces | by hand | ÷ by hand | goal |" in text
    assert (
        "| snapshot | committed and archived | 3 s | 4 s | 0.75 | ≤ 1.5 × by hand: reached; ≤ 2: **not reached** |"
        in text
    )
    assert "workspaces 3 s · by hand 4 s (0.75 ×)" in report.lines([row])[0]


def test_pages_have_a_table_with_a_goal_for_the_slowest() -> None:
    goals = (Goal(50), Goal(150, of=SLOWEST))
    row = Row("/admin/", "20 readers", "ms", {PAGES: 15.0, SLOWEST: 160.0, BARE_PAGE: 3.0}, goals)
    assert [row.reached(goal) for goal in goals] == [True, False]
    text = report.table("web", Results([row]), [])
    assert "| figure | way | median | 99th percentile | bare Flask | ÷ bare Flask | goal |" in text
    cells = "| /admin/ | 20 readers | 15 ms | 160 ms | 3 ms | 5.00 | "
    assert cells + "≤ 50: reached; 99th percentile ≤ 150: **not reached** |" in text
    assert "median 15 ms · 99th percentile 160 ms · bare Flask 3 ms (5.00 ×)" in report.lines([row])[0]


def test_logins_at_once_are_counted_as_they_end() -> None:
    seconds, failed = at_once([["true"], ["false"], ["sh", "-c", "exit 3"], ["true"]])
    assert (len(seconds), failed) == (2, 2)
    assert seconds == sorted(seconds)


def test_a_command_that_fails_is_not_a_time() -> None:
    with pytest.raises(Failed, match=r"status 3.*last words"):
        timed(["sh", "-c", "echo last words >&2; exit 3"])


def test_a_command_that_hangs_is_not_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "COMMAND_SECONDS", 0.1)
    with pytest.raises(Failed, match="no end after"):
        timed(["sleep", "60"])


@pytest.mark.parametrize("terminal", [False, True])
def test_a_client_reads_up_to_a_mark_and_no_further(terminal: bool) -> None:
    with Client(["sh", "-c", "stty raw 2>/dev/null; seq 20000; echo end; cat"], terminal=terminal) as client:
        assert len(client.until(b"\nend\n")) == sum(len(f"{n}\n") for n in range(1, 20001)) + 4
        client.write(b"more")
        client.until(b"more")


def test_a_prompt_is_at_the_end() -> None:
    with Client(["sh", "-c", "echo '# not yet'; read line; printf 'root@box:~# '; cat"]) as client:
        client.until(b"yet")
        client.write(b"go\n")
        client.prompt()
        client.write(b"typed")
        assert client.until(b"typed") == b"typed"


def test_a_client_whose_session_ends_says_what_was_seen() -> None:
    with Client(["echo", "refused"]) as client, pytest.raises(Failed, match="refused"):
        client.prompt()


@pytest.mark.slow
def test_cpu_of_children_that_ended_is_counted() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        servers = Servers(lambda: {parent.pid}, "nobody has this in a command line")
        assert [process.pid for process in servers.members()] == [parent.pid]
        assert servers.seconds() >= 0.28
        assert 1 << 20 < servers.memory() < 1 << 30
        parent.communicate(b"\n")
    assert servers.members() == []


def test_a_mark_in_the_command_line_makes_a_server(tmp_path: Path) -> None:
    mark = f"{tmp_path}/docker.sock"
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait", mark]):
        try:
            servers = Servers(set, mark)
            until(lambda: [process.name for process in servers.members()] == ["sh", "sleep"])
            assert os.getpid() not in {process.pid for process in servers.members()}
        finally:
            for process in reversed(servers.members()):
                os.kill(process.pid, 9)


def test_the_table_takes_its_place_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    begin, end = (mark.format(part="sessions") for mark in (report.BEGIN, report.END))
    page.write_text(f"# Before\n{begin}\nold\n{end}\nafter\n")
    report.write(page, "sessions", results(), ["ratios", "crowd"])
    report.write(page, "sessions", results(), ["ratios", "crowd"])
    text = page.read_text()
    assert text.startswith(f"# Before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert "| ssh … true | pinned | 26 ms | 342 ms | 69.8 ms | 283 ms | 0.08 | 0.37 |" in text
    assert "≤ 0.8 × docker exec: reached; ≤ 0.05 × sshd + docker exec: **not reached**" in text
    assert "rsync was not measured: status 12" in text
    assert "jupyterhub-ssh is left out: " in text
    assert [text.count(f"bench/{name}.svg") for name in report.PLOTS] == [1, 0, 1, 0]


def test_a_page_without_a_place_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Before\n")
    with pytest.raises(HostError, match="no place for the table"):
        report.write(page, "sessions", results(), ["ratios", "crowd"])
    assert page.read_text() == "# Before\n"


@pytest.mark.parametrize("part", program.PARTS)
def test_the_docs_have_a_place_for_each_table(part: str) -> None:
    report.place(program.DOCS / program.PAGE, part)


@pytest.mark.slow
def test_plots_are_the_same_each_time_small_and_text(tmp_path: Path) -> None:
    first = plots.draw(tmp_path / "one", results())
    second = plots.draw(tmp_path / "two", results())
    assert [path.name for path in first] == [f"{name}.svg" for name in report.PLOTS]
    for one, two in zip(first, second, strict=True):
        text = one.read_text()
        assert text == two.read_text()
        assert len(text) < 60_000
        assert "<text" in text
        assert "#ffffff" not in text


def test_plots_without_figures_are_not_drawn(tmp_path: Path) -> None:
    assert plots.draw(tmp_path, Results()) == []


def test_a_figure_that_fails_is_told_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bad(on: object, size: object, found: Results) -> None:
        found.rows.append(results().rows[0])
        raise Failed("status 255: no such host")

    def worse(on: object, size: object, found: Results) -> None:
        raise ZeroDivisionError

    def good(on: object, size: object, found: Results) -> None:
        """All is well."""
        found.rows.append(results().rows[1])

    monkeypatch.setattr(program, "FIGURES", {"bad": bad, "worse": worse, "good": good})
    found = program.measure(None, ("bad", "worse", "good"), QUICK)  # type: ignore[arg-type]
    assert [row.figure for row in found.rows] == ["500 MB down"]
    assert found.failures == {"bad": "status 255: no such host", "worse": "ZeroDivisionError()"}
    said = capsys.readouterr().out
    assert "FAILED: bad: status 255" in said
    assert "good: All is well." in said
