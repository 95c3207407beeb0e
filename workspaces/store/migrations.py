"""The database's tables, as numbered steps that are each applied once.

    old or new file ─► BEGIN IMMEDIATE ─► every step that is not recorded yet, and its record ─► COMMIT

A step is never edited after a release: a change of the tables is a new step at the end. `_sqlite_migrations`
(kept by sqlite-utils) records the steps; a step that this program does not know means a newer program wrote
the file, and it is refused before anything is touched.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sqlite_utils import Database, Migrations

from workspaces.errors import StoreError, StoreTooNew
from workspaces.jobkinds import KINDS
from workspaces.store.accesssteps import m0010_rights, m0031_sign_ins, m0032_factors, m0033_identities
from workspaces.store.apisteps import m0013_tokens
from workspaces.store.objectsteps import m0014_limits, m0015_reports
from workspaces.store.searching import forget, prepare


def m0001_tables(db: Database) -> None:
    """All tables of the first release. AUTOINCREMENT: the id of something removed never names another thing."""
    db.executescript(
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

        CREATE TABLE users (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            role TEXT NOT NULL CHECK (role IN ('participant', 'admin')),
            password_hash TEXT,
            disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
            created_at REAL NOT NULL
        ) STRICT;

        CREATE TABLE keys (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            fingerprint TEXT NOT NULL UNIQUE,
            line TEXT NOT NULL,
            added_at REAL NOT NULL,
            last_used_at REAL,
            last_used_from TEXT
        ) STRICT;
        CREATE INDEX keys_user ON keys (user_id);

        CREATE TABLE challenges (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            slug TEXT NOT NULL UNIQUE,
            image TEXT NOT NULL,
            cpus REAL NOT NULL,
            memory INTEGER NOT NULL,
            pids INTEGER NOT NULL,
            network TEXT NOT NULL CHECK (network IN ('open', 'none')),
            mounts TEXT NOT NULL DEFAULT '[]',
            login_user TEXT NOT NULL,
            opens_at REAL,
            closes_at REAL,
            created_at REAL NOT NULL
        ) STRICT;

        CREATE TABLE workspaces (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            challenge_id INTEGER NOT NULL REFERENCES challenges (id),
            name TEXT NOT NULL,
            image TEXT,
            parent_id INTEGER REFERENCES snapshots (id),
            state TEXT NOT NULL CHECK (state IN ('absent', 'starting', 'running', 'stopped', 'failed')),
            state_detail TEXT NOT NULL DEFAULT '',
            state_at REAL NOT NULL,
            last_login_at REAL,
            created_at REAL NOT NULL,
            removed_at REAL
        ) STRICT;
        -- A removed workspace keeps its row, for its versions; its name may be given again.
        CREATE UNIQUE INDEX workspaces_ref ON workspaces (challenge_id, name) WHERE removed_at IS NULL;
        CREATE INDEX workspaces_name ON workspaces (name, challenge_id);
        CREATE INDEX workspaces_parent ON workspaces (parent_id);

        CREATE TABLE members (
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
            PRIMARY KEY (user_id, workspace_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX members_workspace ON members (workspace_id);

        CREATE TABLE snapshots (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
            message TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('requested', 'approved', 'committing', 'committed', 'archived',
                                                 'rejected', 'withdrawn', 'failed')),
            requested_by TEXT NOT NULL,
            requested_via TEXT NOT NULL CHECK (requested_via IN ('ssh', 'web', 'cli')),
            requested_at REAL NOT NULL,
            decided_by TEXT,
            decided_at REAL,
            reason TEXT,
            version INTEGER CHECK (version > 0),
            parent_id INTEGER REFERENCES snapshots (id),
            image_ref TEXT,
            image_id TEXT,
            diff_ids TEXT NOT NULL DEFAULT '[]',
            manifest_digest TEXT,
            size INTEGER,
            committed_at REAL,
            archived_at REAL
        ) STRICT;
        CREATE UNIQUE INDEX snapshots_version ON snapshots (workspace_id, version);
        CREATE UNIQUE INDEX snapshots_open ON snapshots (workspace_id)
            WHERE state IN ('requested', 'approved', 'committing');
        CREATE INDEX snapshots_state ON snapshots (state);
        CREATE INDEX snapshots_parent ON snapshots (parent_id);

        CREATE TABLE changes (
            snapshot_id INTEGER PRIMARY KEY REFERENCES snapshots (id),
            report TEXT NOT NULL
        ) STRICT;

        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
            snapshot_id INTEGER REFERENCES snapshots (id),
            requested_by TEXT NOT NULL,
            progress REAL NOT NULL DEFAULT 0,
            message TEXT NOT NULL DEFAULT '',
            error TEXT,
            attempts INTEGER NOT NULL DEFAULT 0,
            not_before REAL NOT NULL DEFAULT 0,
            created_at REAL NOT NULL,
            started_at REAL,
            finished_at REAL
        ) STRICT;
        CREATE INDEX jobs_state ON jobs (state);
        CREATE INDEX jobs_workspace ON jobs (workspace_id, state);
        CREATE INDEX jobs_snapshot ON jobs (snapshot_id);
        -- What changes a container never runs beside another such job; nor do two steps of one snapshot.
        CREATE UNIQUE INDEX jobs_running ON jobs (workspace_id)
            WHERE state = 'running' AND kind NOT IN ('inspect', 'archive', 'push', 'sbom');
        CREATE UNIQUE INDEX jobs_running_step ON jobs (snapshot_id)
            WHERE state = 'running' AND kind IN ('inspect', 'commit', 'archive', 'push', 'sbom');

        -- Names as text, not as references: the record stays readable when what it tells of is gone.
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            actor TEXT NOT NULL,
            kind TEXT NOT NULL,
            workspace TEXT,
            snapshot_id INTEGER,
            data TEXT NOT NULL DEFAULT '{}'
        ) STRICT;
        CREATE INDEX events_workspace ON events (workspace);
        CREATE INDEX events_actor ON events (actor);
        CREATE INDEX events_kind ON events (kind);
        """
    )
    db.table("meta").insert({"key": "instance", "value": secrets.token_hex(6)})


def m0002_ssh(db: Database) -> None:
    """What SSH needs: options of keys, authorities, one-time passwords, sessions, and what a challenge allows them."""
    db.executescript(
        """
        ALTER TABLE keys ADD COLUMN options TEXT NOT NULL DEFAULT '';
        ALTER TABLE users ADD COLUMN totp_secret TEXT;
        ALTER TABLE users ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE challenges ADD COLUMN forwarding TEXT NOT NULL DEFAULT '["agent", "local", "remote", "x11"]';
        ALTER TABLE challenges ADD COLUMN idle_seconds REAL;
        ALTER TABLE challenges ADD COLUMN session_seconds REAL;
        ALTER TABLE workspaces ADD COLUMN disk_bytes INTEGER;
        ALTER TABLE workspaces ADD COLUMN disk_at REAL;

        CREATE TABLE authorities (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            challenge_id INTEGER REFERENCES challenges (id) ON DELETE CASCADE,
            fingerprint TEXT NOT NULL,
            line TEXT NOT NULL,
            added_at REAL NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX authorities_key ON authorities (fingerprint, coalesce(challenge_id, 0));
        CREATE INDEX authorities_challenge ON authorities (challenge_id);

        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user TEXT NOT NULL,
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
            kind TEXT NOT NULL CHECK (kind IN ('shell', 'exec', 'sftp')),
            address TEXT NOT NULL,
            started_at REAL NOT NULL,
            ended_at REAL,
            process TEXT NOT NULL
        ) STRICT;
        CREATE INDEX sessions_user ON sessions (user, started_at);
        CREATE INDEX sessions_workspace ON sessions (workspace_id, started_at);
        CREATE INDEX sessions_open ON sessions (process) WHERE ended_at IS NULL;
        CREATE INDEX sessions_shell ON sessions (user, started_at) WHERE kind = 'shell';
        """
    )


def m0003_versions(db: Database) -> None:
    """Versions that the program asks for itself, what becomes of a version later, and what a job is told."""
    db.executescript(
        """
        CREATE TABLE snapshots_new (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
            message TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('requested', 'approved', 'committing', 'committed', 'archived',
                                                 'rejected', 'withdrawn', 'failed')),
            requested_by TEXT NOT NULL,
            requested_via TEXT NOT NULL CHECK (requested_via IN ('ssh', 'web', 'cli', 'auto')),
            requested_at REAL NOT NULL,
            decided_by TEXT,
            decided_at REAL,
            reason TEXT,
            version INTEGER CHECK (version > 0),
            parent_id INTEGER REFERENCES snapshots (id),
            image_ref TEXT,
            image_id TEXT,
            diff_ids TEXT NOT NULL DEFAULT '[]',
            manifest_digest TEXT,
            size INTEGER,
            committed_at REAL,
            archived_at REAL,
            command TEXT,
            paused_seconds REAL,
            pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
            statement TEXT,
            registry_ref TEXT,
            pushed_at REAL,
            pruned_at REAL
        ) STRICT;
        INSERT INTO snapshots_new (id, workspace_id, message, state, requested_by, requested_via, requested_at,
            decided_by, decided_at, reason, version, parent_id, image_ref, image_id, diff_ids, manifest_digest, size,
            committed_at, archived_at)
        SELECT id, workspace_id, message, state, requested_by, requested_via, requested_at,
            decided_by, decided_at, reason, version, parent_id, image_ref, image_id, diff_ids, manifest_digest, size,
            committed_at, archived_at FROM snapshots;
        DROP TABLE snapshots;
        ALTER TABLE snapshots_new RENAME TO snapshots;
        CREATE UNIQUE INDEX snapshots_version ON snapshots (workspace_id, version);
        CREATE UNIQUE INDEX snapshots_open ON snapshots (workspace_id)
            WHERE state IN ('requested', 'approved', 'committing');
        CREATE INDEX snapshots_state ON snapshots (state);
        CREATE INDEX snapshots_parent ON snapshots (parent_id);

        ALTER TABLE jobs ADD COLUMN arguments TEXT NOT NULL DEFAULT '{}';
        """
    )


def m0004_freeze(db: Database) -> None:
    """Freezing challenges, notices to sessions, and snapshots that the program takes beside those of people."""
    db.executescript(
        """
        ALTER TABLE challenges ADD COLUMN auto_approve INTEGER NOT NULL DEFAULT 0 CHECK (auto_approve >= 0);
        ALTER TABLE challenges ADD COLUMN at_close TEXT CHECK (at_close IN ('commit', 'stop', 'read-only'));
        ALTER TABLE challenges ADD COLUMN downloads INTEGER NOT NULL DEFAULT 0 CHECK (downloads IN (0, 1));
        ALTER TABLE workspaces ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0 CHECK (read_only IN (0, 1));

        -- For which job the program took it. No reference: jobs may be forgotten before versions are.
        ALTER TABLE snapshots ADD COLUMN job_id INTEGER;
        ALTER TABLE snapshots ADD COLUMN captured_at REAL;
        CREATE INDEX snapshots_job ON snapshots (job_id) WHERE job_id IS NOT NULL;
        -- A request that waits for a decision does not keep the program from taking a version of its own.
        DROP INDEX snapshots_open;
        CREATE UNIQUE INDEX snapshots_open ON snapshots (workspace_id, requested_via = 'auto')
            WHERE state IN ('requested', 'approved', 'committing');

        CREATE TABLE freezes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            challenge_id INTEGER NOT NULL REFERENCES challenges (id),
            mode TEXT NOT NULL CHECK (mode IN ('commit', 'stop', 'read-only')),
            requested_by TEXT NOT NULL,
            closes_at REAL,
            began_at REAL NOT NULL,
            thawed_at REAL
        ) STRICT;
        CREATE INDEX freezes_challenge ON freezes (challenge_id, id);
        CREATE UNIQUE INDEX freezes_closing ON freezes (challenge_id, closes_at) WHERE closes_at IS NOT NULL;

        CREATE TABLE frozen (
            freeze_id INTEGER NOT NULL REFERENCES freezes (id),
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id),
            job_id INTEGER NOT NULL REFERENCES jobs (id),
            state TEXT NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'committed', 'unchanged', 'never started')),
            snapshot_id INTEGER REFERENCES snapshots (id),
            detail TEXT NOT NULL DEFAULT '',
            done_at REAL,
            PRIMARY KEY (freeze_id, workspace_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX frozen_workspace ON frozen (workspace_id);
        CREATE INDEX frozen_snapshot ON frozen (snapshot_id);
        CREATE INDEX frozen_job ON frozen (job_id);

        CREATE TABLE notices (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            workspace_id INTEGER NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
            text TEXT NOT NULL,
            at REAL NOT NULL
        ) STRICT;
        CREATE INDEX notices_workspace ON notices (workspace_id);
        CREATE TABLE notices_told (
            notice_id INTEGER NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
            process TEXT NOT NULL,
            PRIMARY KEY (notice_id, process)
        ) STRICT, WITHOUT ROWID;
        """
    )


def m0005_retention(db: Database) -> None:
    """Which versions a challenge keeps; without a number, all."""
    db.executescript(
        """
        ALTER TABLE challenges ADD COLUMN keep_last INTEGER CHECK (keep_last > 0);
        ALTER TABLE challenges ADD COLUMN keep_submitted INTEGER NOT NULL DEFAULT 1 CHECK (keep_submitted IN (0, 1));
        """
    )


def m0006_jobs(db: Database) -> None:
    """Order, life, bytes and log of jobs; what people are told of, and what is on its way to them."""
    db.executescript(
        """
        ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 50 CHECK (priority BETWEEN 0 AND 100);
        ALTER TABLE jobs ADD COLUMN cancelled_by TEXT;
        ALTER TABLE jobs ADD COLUMN seen_at REAL;
        ALTER TABLE jobs ADD COLUMN bytes_done INTEGER;
        ALTER TABLE jobs ADD COLUMN bytes_total INTEGER;
        ALTER TABLE jobs ADD COLUMN expected_at REAL;
        ALTER TABLE jobs ADD COLUMN waits_for TEXT;
        ALTER TABLE jobs ADD COLUMN waits_since REAL;
        CREATE INDEX jobs_begun ON jobs (workspace_id, kind, started_at);

        CREATE TABLE job_log (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            at REAL NOT NULL,
            line TEXT NOT NULL
        ) STRICT;
        CREATE INDEX job_log_job ON job_log (job_id, id);

        ALTER TABLE users ADD COLUMN email TEXT;

        CREATE TABLE news (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            at REAL NOT NULL,
            kind TEXT NOT NULL,
            workspace TEXT,
            snapshot_id INTEGER,
            job_id INTEGER,
            text TEXT NOT NULL,
            read_at REAL
        ) STRICT;
        CREATE INDEX news_user ON news (user_id, id);
        CREATE INDEX news_unread ON news (user_id, id) WHERE read_at IS NULL;
        CREATE INDEX news_snapshot ON news (snapshot_id);

        CREATE TABLE webhooks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            url TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL UNIQUE,
            created_at REAL NOT NULL
        ) STRICT;

        -- What is on its way out of this host. `token` names it to the receiver, the same at every try.
        CREATE TABLE deliveries (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            token TEXT NOT NULL UNIQUE,
            user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
            webhook_id INTEGER REFERENCES webhooks (id) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            workspace TEXT,
            payload TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'dead')),
            attempts INTEGER NOT NULL DEFAULT 0,
            not_before REAL NOT NULL DEFAULT 0,
            error TEXT,
            created_at REAL NOT NULL,
            ended_at REAL,
            CHECK ((user_id IS NULL) != (webhook_id IS NULL))
        ) STRICT;
        CREATE INDEX deliveries_waiting ON deliveries (not_before) WHERE state = 'waiting';
        CREATE INDEX deliveries_user ON deliveries (user_id, id);
        CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
        """
    )
    for kind, rule in KINDS.items():
        db.execute("UPDATE jobs SET priority = ? WHERE kind = ?", [rule.priority, kind])


def m0007_provenance(db: Database) -> None:
    """The list of a version's packages, and the challenges that want one."""
    db.executescript(
        """
        ALTER TABLE snapshots ADD COLUMN sbom_digest TEXT;
        ALTER TABLE challenges ADD COLUMN sbom TEXT NOT NULL DEFAULT 'none'
            CHECK (sbom IN ('none', 'spdx', 'cyclonedx'));
        """
    )


def m0008_configurations(db: Database) -> None:
    """The configuration of a version until it is archived."""
    db.executescript(
        """
        CREATE TABLE configurations (
            snapshot_id INTEGER PRIMARY KEY REFERENCES snapshots (id),
            configuration BLOB NOT NULL
        ) STRICT;
        """
    )


def m0009_lists(_db: Database) -> None:
    """Lists are found by indexes and by words: `searching.prepare` makes them after the last step."""


def m0012_recordings(db: Database) -> None:
    """Recordings of terminals, who looked at them, and announcements."""
    db.executescript(
        """
        ALTER TABLE challenges ADD COLUMN record TEXT NOT NULL DEFAULT 'none' CHECK (record IN ('none', 'terminals'));

        CREATE TABLE recordings (
            session_id INTEGER PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
            file TEXT NOT NULL UNIQUE,
            began_at REAL NOT NULL,
            ended_at REAL,
            size INTEGER NOT NULL DEFAULT 0,
            seconds REAL NOT NULL DEFAULT 0,
            left_out INTEGER NOT NULL DEFAULT 0,
            removed_at REAL
        ) STRICT;
        CREATE INDEX recordings_open ON recordings (session_id) WHERE ended_at IS NULL;
        CREATE INDEX recordings_kept ON recordings (began_at) WHERE removed_at IS NULL;

        -- Beside the events, which are for administrators: the person may see who looked.
        CREATE TABLE looks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            session_id INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            actor TEXT NOT NULL,
            how TEXT NOT NULL CHECK (how IN ('watch', 'replay', 'export')),
            at REAL NOT NULL,
            last_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX looks_session ON looks (session_id, id);

        CREATE TABLE announcements (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            text TEXT NOT NULL,
            severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'urgent')),
            challenge_id INTEGER REFERENCES challenges (id) ON DELETE CASCADE,
            from_at REAL NOT NULL,
            until_at REAL,
            created_by TEXT NOT NULL,
            created_at REAL NOT NULL,
            told_at REAL
        ) STRICT;
        CREATE INDEX announcements_until ON announcements (coalesce(until_at, 9e999));
        CREATE INDEX announcements_untold ON announcements (from_at) WHERE told_at IS NULL;
        CREATE INDEX announcements_challenge ON announcements (challenge_id);
        CREATE TABLE dismissals (
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            announcement_id INTEGER NOT NULL REFERENCES announcements (id) ON DELETE CASCADE,
            PRIMARY KEY (user_id, announcement_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX dismissals_announcement ON dismissals (announcement_id);
        """
    )


def m0011_usage(db: Database) -> None:
    """What workspaces and the host use, by the minute, hour and day."""
    db.executescript(
        """
        -- All of one minute lie together, so that writing them touches few pages, and forgetting them is one range.
        CREATE TABLE usage (
            step INTEGER NOT NULL,
            at INTEGER NOT NULL,
            workspace_id INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            cpus REAL NOT NULL,
            cpus_most REAL NOT NULL,
            memory REAL NOT NULL,
            memory_most INTEGER NOT NULL,
            pids_most INTEGER NOT NULL,
            disk INTEGER,
            received INTEGER NOT NULL,
            sent INTEGER NOT NULL,
            PRIMARY KEY (step, at, workspace_id)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE host_usage (
            step INTEGER NOT NULL,
            at INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            cpus REAL NOT NULL,
            cpus_most REAL NOT NULL,
            cores INTEGER NOT NULL,
            memory REAL NOT NULL,
            memory_most INTEGER NOT NULL,
            memory_total INTEGER NOT NULL,
            disk INTEGER NOT NULL,
            disk_total INTEGER NOT NULL,
            load REAL NOT NULL,
            PRIMARY KEY (step, at)
        ) STRICT, WITHOUT ROWID;

        -- How many requests of a person were approved by their challenge today is on every page of that person.
        CREATE INDEX snapshots_person ON snapshots (requested_by, requested_at);
        """
    )


def m0013_live(db: Database) -> None:
    """What pages are kept up to date by: the latest changes of workspaces, and who is on in each."""
    db.executescript(
        """
        CREATE INDEX sessions_live ON sessions (workspace_id) WHERE ended_at IS NULL;
        CREATE INDEX workspaces_state_at ON workspaces (state_at);
        CREATE INDEX workspaces_disk_at ON workspaces (disk_at);
        CREATE INDEX workspaces_login_at ON workspaces (last_login_at);
        """
    )


STEPS: tuple[Callable[[Database], None], ...] = (
    m0001_tables,
    m0002_ssh,
    m0003_versions,
    m0004_freeze,
    m0005_retention,
    m0006_jobs,
    m0007_provenance,
    m0008_configurations,
    m0009_lists,
    m0010_rights,
    m0011_usage,
    m0012_recordings,
    m0013_tokens,
    m0013_live,
    m0014_limits,
    m0015_reports,
    m0031_sign_ins,
    m0032_factors,
    m0033_identities,
)


def _migrations() -> Migrations:
    migrations = Migrations("workspaces")
    for step in STEPS:
        migrations(name=step.__name__)(step)
    return migrations


def check_known(db: Database) -> bool:
    """True when every step is applied, False when some are missing. Writes nothing.

    Raises StoreTooNew when the file has a step that this program does not know, StoreError when it is a
    database of another program.
    """
    applied = {step.name for step in _migrations().applied(db)}
    known = {step.__name__ for step in STEPS}
    if not applied and db.table_names():
        raise StoreError("The file is an SQLite database of another program.", "Name another state directory.")
    if applied - known:
        raise StoreTooNew(
            f"The database was written by a newer version of this program: {', '.join(sorted(applied - known))} is "
            "unknown to this one.",
            "Install the newer version again, or restore a backup from before its first start.",
        )
    return applied == known


def migrate(db: Database) -> None:
    """Apply what is missing. The caller holds a write transaction, with foreign keys off, and commits it."""
    if check_known(db):
        return
    forget(db)
    _migrations().apply(db)
    prepare(db)
    broken = db.execute("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise StoreError(f"After the upgrade {len(broken)} row(s) would refer to nothing; nothing was changed.")
