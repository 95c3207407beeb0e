"""A store as after two months of several challenges with 500 participants: written in bulk, in seconds.

Everything is drawn from one seeded generator, ends now, and obeys the store's own rules: at most one open request of a
workspace, versions numbered from 1, ids in the order of their times. The rows are plain SQL, since the store's calls
would take hours; `prepare` indexes their words afterwards, as the last step of the migrations does.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from tests.support.sample import public_key, report
from workspaces.store import Store
from workspaces.store.rows import changes_json
from workspaces.store.searching import forget, prepare

DAY = 86400.0
SPAN = 60 * DAY
ADMIN = "chief"
SLUGS = ("als", "eeg", "sleep", "gait", "tumour", "retina")
SYLLABLES = (
    "al",
    "ben",
    "ca",
    "di",
    "em",
    "fa",
    "go",
    "hu",
    "in",
    "jo",
    "ka",
    "li",
    "mo",
    "na",
    "or",
    "pe",
    "ru",
    "so",
)
SUBJECTS = ("Cox model", "gradient boosting", "linear baseline", "random forest", "ensemble of three", "survival net")
DETAILS = ("seed fixed in run.sh", "retrained after the data fix", "no tuning", "five folds", "features of the paper")
STATES = ("running", "stopped", "stopped", "absent", "failed")
STATEMENT = f'{{"payload": "{"A" * 1500}"}}'
COLUMNS = {
    "users": "id name role password_hash disabled created_at email",
    "keys": "user_id fingerprint line added_at last_used_at last_used_from",
    "challenges": "id slug image cpus memory pids network mounts login_user closes_at created_at downloads",
    "workspaces": "id challenge_id name state state_detail state_at last_login_at created_at disk_bytes disk_at",
    "members": "user_id workspace_id",
    "snapshots": "id workspace_id message state requested_by requested_via requested_at decided_by decided_at reason "
    "version image_ref image_id diff_ids manifest_digest size committed_at archived_at pinned statement",
    "changes": "snapshot_id report",
    "jobs": "id kind state workspace_id snapshot_id requested_by progress message error attempts created_at started_at "
    "finished_at seen_at",
    "job_log": "job_id at line",
    "events": "at actor kind workspace snapshot_id data",
    "sessions": "user workspace_id kind address started_at ended_at process",
    "usage": "step at workspace_id samples cpus cpus_most memory memory_most pids_most disk received sent",
    "host_usage": "step at samples cpus cpus_most cores memory memory_most memory_total disk disk_total load",
    "news": "user_id at kind workspace snapshot_id text read_at",
}


@dataclass(frozen=True, slots=True)
class Size:
    people: int = 500
    versions: int = 5000
    events: int = 100_000
    sessions: int = 50_000
    requests: int = 30
    entries: int = 600  # in the change report of an open request, at most
    news: int = 40  # of each
    minutes: int = 1500  # of use, of each workspace that runs; hours are half as many


FULL = Size()
SMALL = Size(people=30, versions=120, events=800, sessions=300, requests=8, entries=60, news=5, minutes=60)


def name_of(number: int) -> str:
    """A participant's name, different for each number."""
    draw = random.Random(number)
    return f"{draw.choice(SYLLABLES)}{draw.choice(SYLLABLES)}{draw.choice(SYLLABLES)}{number}"


def build(path: Path, size: Size = FULL, password_hash: str | None = None) -> Store:
    """Make the store at `path`, which is not there yet. Everybody has the password that `password_hash` is of."""
    store = Store.open(path)
    conn = sqlite3.connect(path, isolation_level=None)
    db = Database(conn)
    made = _Maker(size, password_hash)
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute("BEGIN IMMEDIATE")
    forget(db)
    for table, rows in made.tables():
        columns = COLUMNS[table].split()
        marks = ", ".join("?" * len(columns))
        conn.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    prepare(db)
    conn.execute("COMMIT")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return store


class _Maker:
    def __init__(self, size: Size, password_hash: str | None) -> None:
        self.size, self.hash = size, password_hash
        self.draw = random.Random(500)
        self.now = time.time()
        self.begun = self.now - SPAN
        self.people = [name_of(n) for n in range(size.people)]
        self.teams = size.people // 20
        # workspace id → challenge slug, name, ids of its members (user 1 is the administrator)
        self.spaces: list[tuple[str, str, list[int]]] = [
            (SLUGS[n % 3], name, [n + 2]) for n, name in enumerate(self.people)
        ] + [
            (SLUGS[3 + n % 3], f"team-{n}", [2 + (n * 7 + k) % size.people for k in range(3)])
            for n in range(self.teams)
        ]

    def tables(self) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
        yield "users", [(1, ADMIN, "admin", self.hash, 0, self.begun, "chief@example.org"), *self._people()]
        yield (
            "keys",
            [
                (n + 2, *public_key(f"{name}@laptop"), self.begun, self._at(n), "198.51.100.24")
                for n, name in enumerate(self.people)
                if n % 5
            ],
        )
        yield "challenges", [
            (n + 1, slug, "debian-ds:12", 2.0, 4 << 30, 512, "open", '[["/srv/data", "/data"]]', "root",
             self.now + 20 * DAY, self.begun, 1)
            for n, slug in enumerate(SLUGS)
        ]  # fmt: skip
        yield "workspaces", list(self._workspaces())
        yield "members", sorted({(user, id_ + 1) for id_, space in enumerate(self.spaces) for user in space[2]})
        snapshots = list(self._snapshots())
        yield "snapshots", snapshots
        yield "changes", [(row[0], self._report(row)) for row in snapshots]
        jobs = list(self._jobs(snapshots))
        yield "jobs", jobs
        yield "job_log", [(row[0], row[10] + k, f"Step {k} of {row[1]}.") for row in jobs[-2000:] for k in range(8)]
        yield "events", list(self._events(snapshots))
        yield "sessions", list(self._sessions())
        yield "news", list(self._news(snapshots))
        yield "usage", list(self._usage())
        yield (
            "host_usage",
            [
                (step, at, 1, 0.7, 1.4, 2, 6e9, 7 << 30, 8 << 30, 200 << 30, 400 << 30, 1.1)
                for step, at in self._times()
            ],
        )

    def _at(self, number: int) -> float:
        """Somewhere in the span, the same for one number."""
        return self.begun + random.Random(number).random() * SPAN

    def _ref(self, workspace_id: int) -> str:
        slug, name, _ = self.spaces[workspace_id - 1]
        return f"{slug}/{name}"

    def _member(self, workspace_id: int) -> str:
        return self.people[self.draw.choice(self.spaces[workspace_id - 1][2]) - 2]

    def _people(self) -> Iterator[tuple[Any, ...]]:
        for n, name in enumerate(self.people):
            yield (
                n + 2,
                name,
                "participant",
                self.hash,
                int(n % 97 == 96),
                self.begun + n,
                f"{name}@example.org" if n % 3 else None,
            )

    def _workspaces(self) -> Iterator[tuple[Any, ...]]:
        for n, (slug, name, _) in enumerate(self.spaces):
            state = STATES[n % len(STATES)]
            absent = state == "absent"
            seen = None if absent else self._at(n)
            disk = None if absent else self.draw.randint(1 << 20, 20 << 30)
            detail = "ran out of memory (4.0 GiB)" if state == "failed" else ""
            yield (
                n + 1,
                SLUGS.index(slug) + 1,
                name,
                state,
                detail,
                seen or self.begun,
                seen,
                self.begun + n,
                disk,
                seen,
            )

    def _snapshots(self) -> Iterator[tuple[Any, ...]]:
        """Versions with a rejection for every twelfth, and at the end the open requests."""
        count = self.size.versions + self.size.versions // 12 + self.size.requests
        versions: dict[int, int] = {}
        for number in range(1, count + 1):
            at = self.begun + SPAN * number / (count + 1)
            is_open = number > count - self.size.requests
            # Open requests are of different workspaces.
            space = number % len(self.spaces) + 1
            who = self._member(space)
            message = f"{self.draw.choice(SUBJECTS)}, {self.draw.choice(DETAILS)}, attempt {number}"
            head = (number, space, message)
            asked = (who, self.draw.choice(("ssh", "web", "cli")), at)
            if is_open:
                yield *head, "requested", *asked, *(None,) * 6, "[]", *(None,) * 4, 0, None
            elif number % 13 == 0:
                yield (
                    *head,
                    "rejected",
                    *asked,
                    ADMIN,
                    at + 600,
                    "The ids are missing.",
                    *(None,) * 3,
                    "[]",
                    *(None,) * 4,
                    0,
                    None,
                )
            else:
                version = versions[space] = versions.get(space, 0) + 1
                digest = f"sha256:{self.draw.getrandbits(256):064x}"
                layers = json.dumps([f"sha256:{self.draw.getrandbits(256):064x}" for _ in range(4)])
                size = self.draw.randint(1 << 16, 2 << 30)
                yield (
                    *head, "archived", *asked, ADMIN, at + 600, None, version, f"{self._ref(space)}:v{version}", digest,
                    layers, digest, size, at + 660, at + 700, int(number % 50 == 0), STATEMENT,
                )  # fmt: skip

    def _report(self, row: tuple[Any, ...]) -> str:
        is_open = row[3] == "requested"
        count = self.draw.randint(self.size.entries // 3, self.size.entries) if is_open else self.draw.randint(2, 40)
        paths = [("added", f"/root/work/run-{n % 7}/fold-{n}/weights.pt", 4096 * n) for n in range(count // 2)]
        warnings = ("Secrets were found in files: /root/.ssh/id_ed25519 (private-key).",) if row[0] % 5 == 0 else ()
        return changes_json(report(row[6], paths, count // 2, warnings))

    def _jobs(self, snapshots: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        number = 0
        for row in snapshots:
            kinds = ("inspect", "commit", "archive") if row[3] == "archived" else ("inspect",)
            for k, kind in enumerate(kinds):
                number += 1
                at = row[6] + 200 * k
                failed = number % 60 == 0
                yield (
                    number, kind, "failed" if failed else "done", row[1], row[0], row[4], 0.5 if failed else 1.0,
                    f"{kind} of {self._ref(row[1])}", "The engine did not answer in time." if failed else None, 1, at,
                    at + 1, at + 60, at + 60,
                )  # fmt: skip
        for n in range(self.size.requests):
            number += 1
            running = n < 4
            space = 1 + n * 5 % len(self.spaces)
            yield (
                number, "start" if n % 2 else "stop", "running" if running else "queued", space, None, ADMIN,
                0.4 if running else 0.0, "working" if running else "", None, 1, self.now - 60 + n,
                self.now - 30 if running else None, None, self.now - 5 if running else None,
            )  # fmt: skip

    def _events(self, snapshots: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Mostly logins, as it is; those of snapshots among them, in the order of their times."""
        told = []
        for row in snapshots:
            ref = self._ref(row[1])
            said = json.dumps({"message": row[2], "via": row[5]})
            told.append((row[6], row[4], "snapshot.requested", ref, row[0], said))
            if row[8]:
                kind = "snapshot.rejected" if row[3] == "rejected" else "snapshot.approved"
                told.append((row[8], ADMIN, kind, ref, row[0], "{}"))
        rest = self.size.events - len(told)
        logins = []
        for n in range(rest):
            space = self.draw.randint(1, len(self.spaces))
            kind = "login.accepted" if n % 4 else "job.done"
            data = {"via": "ssh", "address": f"198.51.{n % 100}.{n % 250}", "key": "SHA256:" + f"{n * 7919:x}"}
            who = "worker" if kind == "job.done" else self._member(space)
            logins.append((self.begun + SPAN * n / rest, who, kind, self._ref(space), None, json.dumps(data)))
        yield from sorted(told + logins)

    def _sessions(self) -> Iterator[tuple[Any, ...]]:
        count, on = self.size.sessions, max(4, self.size.people * 3 // 5)
        for n in range(count):
            space = self.draw.randint(1, len(self.spaces))
            at = self.begun + SPAN * n / count
            ended = None if n >= count - on else at + self.draw.random() * 7200
            kind = ("shell", "shell", "exec", "sftp")[n % 4]
            yield self._member(space), space, kind, f"198.51.{n % 100}.{n % 250}", at, ended, "gateway-1"

    def _news(self, snapshots: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for n in range((self.size.people + 1) * self.size.news):
            row = snapshots[n * 31 % len(snapshots)]
            at = self.begun + SPAN * n / ((self.size.people + 1) * self.size.news)
            text = f"{self._ref(row[1])} is committed and archived."
            yield (
                1 + n % (self.size.people + 1),
                at,
                "snapshot.archived",
                self._ref(row[1]),
                row[0],
                text,
                at + 60 if n % 4 else None,
            )

    def _times(self) -> Iterator[tuple[int, int]]:
        for step, number in ((60, self.size.minutes), (3600, self.size.minutes // 2)):
            last = int(self.now) // step
            yield from ((step, (last - n) * step) for n in range(number, -1, -1))

    def _usage(self) -> Iterator[tuple[Any, ...]]:
        running = [n + 1 for n in range(len(self.spaces)) if STATES[n % len(STATES)] == "running"]
        for step, at in self._times():
            for id_ in running:
                yield step, at, id_, 1, 0.2, 0.9, 4e8, 5 << 28, 40, None, 1000, 2000
