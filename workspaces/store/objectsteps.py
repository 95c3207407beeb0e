"""Steps of the migrations about limits of single workspaces, jobs about the host, and what jobs find."""

from __future__ import annotations

from sqlite_utils import Database

_OF_A_WORKSPACE = "workspace_id INTEGER NOT NULL REFERENCES workspaces (id)"


def m0014_limits(db: Database) -> None:
    """What one workspace may use in place of what its challenge says; without a value, what the challenge says."""
    db.executescript(
        """
        ALTER TABLE workspaces ADD COLUMN own_cpus REAL CHECK (own_cpus > 0);
        ALTER TABLE workspaces ADD COLUMN own_memory INTEGER CHECK (own_memory > 0);
        ALTER TABLE workspaces ADD COLUMN own_pids INTEGER CHECK (own_pids > 0);
        """
    )


def m0015_reports(db: Database) -> None:
    """Jobs about the host, which have no workspace; what jobs found; the base images that the engine has."""
    _rebuild_jobs(db)
    db.executescript(
        """
        CREATE TABLE job_reports (
            job_id INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
            kind TEXT NOT NULL,
            about TEXT NOT NULL,
            at REAL NOT NULL,
            document TEXT NOT NULL
        ) STRICT;
        CREATE INDEX job_reports_about ON job_reports (kind, about, job_id);

        -- Images that are no versions, as the worker saw them last.
        CREATE TABLE base_images (
            id TEXT PRIMARY KEY,
            refs TEXT NOT NULL,
            size INTEGER NOT NULL,
            layers INTEGER NOT NULL,
            created_at REAL NOT NULL,
            seen_at REAL NOT NULL,
            checked_at REAL,
            findings TEXT NOT NULL DEFAULT '[]'
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX challenges_image ON challenges (image);
        CREATE INDEX workspaces_image ON workspaces (image) WHERE image IS NOT NULL AND removed_at IS NULL;
        """
    )


def _rebuild_jobs(db: Database) -> None:
    """The table anew with the columns and indexes that it has by now, and no need of a workspace.

    Its triggers were dropped before the first step, and come back after the last. Of kinds, only those that change the
    container exclude each other in one workspace.
    """
    made = "SELECT sql FROM sqlite_master WHERE tbl_name = 'jobs' AND type = ? AND sql IS NOT NULL"
    [table] = [row[0] for row in db.execute(made, ["table"])]
    indexes = [row[0] for row in db.execute(made, ["index"]) if " jobs_running " not in row[0]]
    columns = ", ".join(f'"{row[1]}"' for row in db.execute("PRAGMA table_info(jobs)"))
    assert _OF_A_WORKSPACE in table
    body = table[table.index("(") :].replace(_OF_A_WORKSPACE, "workspace_id INTEGER REFERENCES workspaces (id)")
    db.execute(f"CREATE TABLE jobs_new {body}")
    db.execute(f"INSERT INTO jobs_new ({columns}) SELECT {columns} FROM jobs")  # noqa: S608 -- names of our own
    db.execute("DROP TABLE jobs")
    db.execute("ALTER TABLE jobs_new RENAME TO jobs")
    for index in indexes:
        db.execute(index)
    db.execute(
        "CREATE UNIQUE INDEX jobs_running ON jobs (workspace_id) WHERE state = 'running' AND kind NOT IN "
        "('inspect', 'archive', 'push', 'sbom', 'look', 'diff')"
    )
