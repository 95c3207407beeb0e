"""What makes lists fast: indexes, and the words of each event, job, session and snapshot in full-text tables.

    a row is written ─► its trigger ─► the words of the row in NAME_search, in the same transaction

All of it is derived: it is made anew after the last step of the migrations, since a step that builds a table anew
loses the triggers and indexes of the old one. What is added here after a release needs a step, if only an empty one.
The words of events, jobs and sessions are found by their beginnings. Snapshots are fewer and have what people wrote:
any three characters in a row are found.
"""

# ruff: noqa: S608 -- every name and expression is one of the constants below

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database

INDEXES = {
    "workspaces_state": "workspaces (state) WHERE removed_at IS NULL",
    "snapshots_workspace": "snapshots (workspace_id)",
    "snapshots_requested_by": "snapshots (requested_by)",
    "snapshots_requested_at": "snapshots (requested_at)",
    "snapshots_decided_at": "snapshots (decided_at)",
    "snapshots_size": "snapshots (size)",
    # what snapshots are counted by, for which their rows, with statements in them, are wide
    "snapshots_counted": "snapshots (workspace_id, state, version, pruned_at, requested_via, decided_by, size, pinned)",
    "snapshots_image": "snapshots (image_ref)",
    "snapshots_pushed": "snapshots (pushed_at) WHERE registry_ref IS NOT NULL",
    "jobs_of": "jobs (workspace_id)",
    "jobs_requested_by": "jobs (requested_by)",
    "jobs_created_at": "jobs (created_at)",
    "jobs_kind": "jobs (kind)",
    "events_at": "events (at)",
    "events_snapshot": "events (snapshot_id) WHERE snapshot_id IS NOT NULL",
    "events_login": "events (actor, at) WHERE kind = 'login.accepted'",
    "sessions_started": "sessions (started_at)",
    "sessions_ended": "sessions (workspace_id, ended_at) WHERE ended_at IS NOT NULL",  # who was on last
    # what the archive holds, without the rows, which are long
    "snapshots_kept": "snapshots (state, pruned_at, size) WHERE state IN ('committed', 'archived')",
}
_REF = (
    "(SELECT c.slug || '/' || w.name FROM workspaces w JOIN challenges c ON c.id = w.challenge_id "
    "WHERE w.id = {row}.workspace_id)"
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one table: `text` is SQL over a row, `changes` the columns in it that are ever changed."""

    table: str
    text: str
    changes: tuple[str, ...] = ()
    tokens: str = "unicode61"

    @property
    def name(self) -> str:
        return f"{self.table}_search"

    def triggers(self) -> dict[str, str]:
        """Each by its name. A contentless table must be told the old words to forget them."""
        new = f"INSERT INTO {self.name} (rowid, text) VALUES (new.id, {self.text.format(row='new')});"
        old = (
            f"INSERT INTO {self.name} ({self.name}, rowid, text) "
            f"VALUES ('delete', old.id, {self.text.format(row='old')});"
        )
        made = {
            f"{self.name}_added": f"AFTER INSERT ON {self.table} BEGIN {new} END",
            f"{self.name}_removed": f"AFTER DELETE ON {self.table} BEGIN {old} END",
        }
        if self.changes:
            of = ", ".join(self.changes)
            made[f"{self.name}_changed"] = f"AFTER UPDATE OF {of} ON {self.table} BEGIN {old} {new} END"
        return made


WORDS = (
    Words(
        "events",
        "{row}.actor || ' ' || {row}.kind || ' ' || coalesce({row}.workspace, '') || ' ' || "
        "coalesce((SELECT group_concat(value, ' ') FROM json_each({row}.data)), '')",
    ),
    Words("sessions", f"{{row}}.user || ' ' || {{row}}.kind || ' ' || {{row}}.address || ' ' || {_REF}"),
    Words(
        "jobs",
        f"{{row}}.kind || ' ' || {{row}}.requested_by || ' ' || coalesce({_REF}, '') || ' ' || "
        "coalesce({row}.error, '')",
        ("error",),
    ),
    Words(
        "snapshots",
        f"{_REF} || ' ' || {{row}}.requested_by || ' ' || coalesce({{row}}.decided_by, '') || ' ' || "
        "{row}.message || ' ' || coalesce({row}.reason, '')",
        ("reason", "decided_by"),
        "trigram",
    ),
)


def forget(db: Database) -> None:
    """Drop the triggers: with one that names a table, SQLite lets no step build that table anew."""
    for words in WORDS:
        for name in words.triggers():
            db.execute(f"DROP TRIGGER IF EXISTS {name}")


def prepare(db: Database) -> None:
    """Make all this, with the words of the rows that are there. In a write transaction, after `forget`."""
    for name, on in INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {on}")
    for words in WORDS:
        db.execute(f"DROP TABLE IF EXISTS {words.name}")
        db.execute(f"CREATE VIRTUAL TABLE {words.name} USING fts5 (text, content='', tokenize='{words.tokens}')")
        for name, trigger in words.triggers().items():
            db.execute(f"CREATE TRIGGER {name} {trigger}")
        text = words.text.format(row="r")
        db.execute(f"INSERT INTO {words.name} (rowid, text) SELECT r.id, {text} FROM {words.table} r")
