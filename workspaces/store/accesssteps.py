"""Steps of the database about who may do what and how one signs in; `migrations.py` has them in their order."""

from __future__ import annotations

from sqlite_utils import Database

_ROLES = "CHECK (role IN ('participant', 'admin'))"
_MORE_ROLES = "CHECK (role IN ('participant', 'reviewer', 'admin'))"


def m0010_rights(db: Database) -> None:
    """The role reviewer, and roles in single challenges."""
    # SQLite changes no CHECK, so the table is made anew, with whatever columns it has by now.
    kept = db.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'users' AND type != 'table' AND sql IS NOT NULL")
    others = [row[0] for row in kept.fetchall()]
    made: str = db.execute("SELECT sql FROM sqlite_master WHERE name = 'users' AND type = 'table'").fetchone()[0]
    if _ROLES not in made:
        raise AssertionError("the table of users is not as it was made")
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'users'").fetchone()
    head, _, body = made.replace(_ROLES, _MORE_ROLES).partition("(")
    assert "users" in head
    db.execute(f"CREATE TABLE users_new ({body}")
    db.execute("INSERT INTO users_new SELECT * FROM users")
    db.execute("DROP TABLE users")
    db.execute("ALTER TABLE users_new RENAME TO users")
    if last:  # the id of an account that was removed never names another one
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'users'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('users', ?)", [last[0]])
    for sql in others:
        db.execute(sql)
    db.execute(
        """
        CREATE TABLE challenge_roles (
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            challenge_id INTEGER NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('reviewer', 'admin')),
            PRIMARY KEY (user_id, challenge_id)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute("CREATE INDEX challenge_roles_challenge ON challenge_roles (challenge_id)")


def m0031_sign_ins(db: Database) -> None:
    """Who is signed in to the pages. Kept is a digest of what the browser shows, not that itself."""
    db.execute(
        """
        CREATE TABLE sign_ins (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            token_hash TEXT NOT NULL UNIQUE,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            via TEXT NOT NULL,
            address TEXT NOT NULL,
            browser TEXT NOT NULL,
            created_at REAL NOT NULL,
            seen_at REAL NOT NULL,
            proven_at REAL NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX sign_ins_user ON sign_ins (user_id, seen_at)")
    db.execute("CREATE INDEX sign_ins_seen ON sign_ins (seen_at)")


def m0032_factors(db: Database) -> None:
    """Second factors beside one-time codes: passkeys, and codes on paper for when all else is lost."""
    db.execute(
        """
        CREATE TABLE passkeys (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            credential TEXT NOT NULL UNIQUE,
            public_key BLOB NOT NULL,
            sign_count INTEGER NOT NULL,
            transports TEXT NOT NULL,
            name TEXT NOT NULL,
            added_at REAL NOT NULL,
            last_used_at REAL,
            last_used_from TEXT
        ) STRICT
        """
    )
    db.execute("CREATE INDEX passkeys_user ON passkeys (user_id)")
    db.execute(
        """
        CREATE TABLE recovery_codes (
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            digest TEXT NOT NULL,
            used_at REAL,
            PRIMARY KEY (user_id, digest)
        ) STRICT, WITHOUT ROWID
        """
    )


def m0033_identities(db: Database) -> None:
    """Accounts at an OpenID provider that sign somebody in here, and invitations to set a first password."""
    db.execute(
        """
        CREATE TABLE identities (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            issuer TEXT NOT NULL,
            subject TEXT NOT NULL,
            shown TEXT NOT NULL,
            linked_at REAL NOT NULL,
            last_used_at REAL,
            UNIQUE (issuer, subject)
        ) STRICT
        """
    )
    db.execute("CREATE INDEX identities_user ON identities (user_id)")
    db.execute("CREATE INDEX users_email ON users (email) WHERE email IS NOT NULL")
    db.execute(
        """
        CREATE TABLE invitations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
            digest TEXT NOT NULL UNIQUE,
            invited_by TEXT NOT NULL,
            invited_at REAL NOT NULL,
            expires_at REAL NOT NULL
        ) STRICT
        """
    )
