"""The step of the database for the API; `migrations.py` has it in its order."""

from __future__ import annotations

from sqlite_utils import Database


def m0013_tokens(db: Database) -> None:
    """Tokens, of which only a digest is kept, and what writes with an Idempotency-Key were answered."""
    db.execute(
        """
        CREATE TABLE tokens (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            scopes TEXT NOT NULL,
            digest TEXT NOT NULL UNIQUE,
            hint TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL NOT NULL,
            last_used_at REAL,
            last_used_from TEXT
        ) STRICT
        """
    )
    db.execute("CREATE INDEX tokens_user ON tokens (user_id, id)")
    db.execute("CREATE INDEX tokens_expire ON tokens (expires_at)")
    db.execute(
        """
        CREATE TABLE answers (
            token_id INTEGER NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
            key TEXT NOT NULL,
            request TEXT NOT NULL,
            status INTEGER NOT NULL,
            body TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (token_id, key)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX answers_at ON answers (at)")
