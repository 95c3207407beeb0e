"""Connections, transactions and errors of the database; every other module of the store builds on this one.

    a thread's first call ─► its own connection (WAL, foreign keys on, synchronous FULL)
    a read                ─► one statement, which sees one moment of the database
    a write               ─► BEGIN IMMEDIATE (bounded wait) ─► changes and their event ─► COMMIT
    sqlite3's exceptions  ─► StoreBusy, StoreError …, here and nowhere else

synchronous is FULL, not NORMAL: with NORMAL a commit in WAL mode survives a killed process but not a power cut,
and nothing acknowledged may be lost. It costs one fsync for each commit (measured: 0.2 ms instead of 0.01 ms on a
virtual disk); a login writes once or twice, so it does not show.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from workspaces.errors import Conflict, InvalidInput, NotFound, StoreBusy, StoreError
from workspaces.names import printable
from workspaces.store.migrations import check_known, migrate

BUSY_SECONDS = 5.0  # how long one attempt waits for another writer
BUSY_ATTEMPTS = 3

Row = dict[str, Any]
_TABLES = {"s": "snapshots", "j": "jobs"}  # by what selects call them

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SENTENCES = {
    sqlite3.SQLITE_FULL: ("The disk of the database is full; nothing was written.", "Free some space, then repeat."),
    sqlite3.SQLITE_NOTADB: ("{path} is not a database.", "Restore it from a backup."),
    sqlite3.SQLITE_CORRUPT: ("{path} is damaged.", "Stop the program and restore the file from a backup."),
    sqlite3.SQLITE_CANTOPEN: ("{path} cannot be opened.", "Check that its directory is there and can be written."),
    sqlite3.SQLITE_READONLY: ("{path} cannot be written.", "Check its owner and permissions."),
    sqlite3.SQLITE_IOERR: (
        "The disk of {path} reports an error; nothing was written.",
        "Check its space and the disk.",
    ),
}


def in_challenges(slugs: Collection[str] | None) -> str:
    """A condition on column c.slug, with a parameter for each of `slugs`; none for None."""
    return "" if slugs is None else f" AND c.slug IN ({', '.join('?' * len(slugs))})"


class _Local:
    """One thread's connection. It is closed when its thread ends, since only that thread's storage holds it."""

    def __init__(self, path: Path) -> None:
        # The transactions are begun here, not by Python's driver: isolation_level None.
        self.conn = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.conn.close)
        # No plugins: what else is installed in the environment has no say in this file.
        self.db = Database(self.conn, recursive_triggers=False, execute_plugins=False)


class Connections:
    """The base class of Store: an open database file, safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open, create or migrate the database at `path`. Raises StoreError, StoreTooNew or StoreBusy."""
        self.path = path
        self._local = threading.local()
        self._all: weakref.WeakSet[_Local] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        try:
            # Made before SQLite does, which would use the umask; the -wal and -shm files copy this mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise StoreError(f"{path} cannot be opened: {exc.strerror}.", "Check that its directory is there.") from exc
        try:
            self._migrate()
            with self._errors():
                self._watcher = self._connect()
                self.instance: str = self._one("SELECT value FROM meta WHERE key = 'instance'")["value"]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections of all threads. Later calls raise StoreError; closing twice is fine."""
        with self._lock:
            self._closed = True
            for local in list(self._all):
                local.conn.close()

    def data_version(self) -> int:
        """A number that is another one after any commit by any thread or process; costs microseconds.

        Compare it only with what the same Store returned earlier. It comes from a connection that never writes,
        since SQLite's own number tells each connection of the others' commits only.
        """
        with self._errors(), self._lock:
            return int(self._watcher.db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several calls of this store, by this thread, as one change: all of them are kept, or none.

        Raises StoreBusy when another writer does not finish in time. Keep it short: it holds up every other writer.
        """
        with self._write():
            yield

    # for the other modules of the store

    @contextmanager
    def _write(self) -> Iterator[Database]:
        """A write transaction. Inside another one of this thread it is a part of that one."""
        with self._errors():
            db = self._db()
            if db.conn.in_transaction:
                with db.atomic():
                    yield db
                return
            self._begin(db)
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.rollback()
                raise

    def _rows(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        with self._errors():
            cursor = self._db().execute(sql, params)  # not query(), which puts each read between two more statements
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def _find(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        rows = self._rows(sql, params)
        return rows[0] if rows else None

    def _one(self, sql: str, params: Sequence[Any] = (), missing: str = "There is no such thing.") -> Row:
        row = self._find(sql, params)
        if row is None:
            raise NotFound(missing)
        return row

    def _newest(
        self,
        select: str,
        table: str,
        workspace_id: int | None,
        states: Sequence[str] | None,
        limit: int | None,
        challenges: Collection[str] | None,
    ) -> list[Row]:
        """The rows of `select`, newest first; of one workspace, in some states, of some challenges, at most `limit` of
        them (None: all)."""
        sql, params = f"{select} WHERE 1{in_challenges(challenges)}", list[object](challenges or ())
        if workspace_id is not None:
            sql, params = f"{sql} AND {table}.workspace_id = ?", [*params, workspace_id]
        if states is not None and (workspace_id is not None or limit is None or len(states) < 2):
            sql, params = f"{sql} AND {table}.state IN ({', '.join('?' * len(states))})", [*params, *states]
        elif states is not None and challenges is not None:
            sql, params = f"{sql} AND +{table}.state IN ({', '.join('?' * len(states))})", [*params, *states]
        elif states is not None:  # the newest of each state are found by its index; all of some states are not sorted
            each = f"SELECT * FROM (SELECT id FROM {_TABLES[table]} WHERE state = ? ORDER BY id DESC LIMIT ?)"  # noqa: S608
            sql = f"{sql} AND {table}.id IN ({' UNION ALL '.join([each] * len(states))})"
            params = [value for state in states for value in (state, limit)]
        if limit is None:
            return sorted(self._rows(sql, params), key=lambda row: -int(row["id"]))
        return self._rows(f"{sql} ORDER BY {table}.id DESC LIMIT ?", [*params, limit])

    def _record(
        self,
        actor: str,
        kind: str,
        workspace: str | None = None,
        snapshot_id: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Write an event in the current transaction; values of `data` that are None are left out."""
        said = {name: str(value) for name, value in (data or {}).items() if value is not None}
        row = {"at": time.time(), "actor": actor, "kind": kind, "workspace": workspace, "snapshot_id": snapshot_id}
        self._insert("events", {**row, "data": json.dumps(said)})

    def _insert(self, table: str, row: Row) -> int:
        """Add a row in the current transaction, or in one of its own; returns its id.

        Not by sqlite-utils, which looks at the table and opens a savepoint for each row: lists of people are long.
        """
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 -- names of ours
        with self._write() as db:
            rowid = db.execute(sql, list(row.values())).lastrowid
            assert rowid is not None
            return rowid

    # how it is done

    def _connect(self, foreign_keys: bool = True) -> _Local:
        local = _Local(self.path)
        local.db.execute("PRAGMA synchronous = FULL")
        local.db.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        with self._lock:
            if self._closed:
                raise StoreError("The store is closed.")
            self._all.add(local)
        return local

    def _db(self) -> Database:
        local: _Local | None = getattr(self._local, "value", None)
        if local is None:
            local = self._local.value = self._connect()
        return local.db

    def _begin(self, db: Database) -> None:
        """Take the write lock. After it nothing in a WAL database meets another's lock, so only this is retried."""
        for attempt in range(BUSY_ATTEMPTS):
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as exc:
                if _code(exc) not in _BUSY or attempt == BUSY_ATTEMPTS - 1:
                    raise
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 -- apart from others that wait as long

    def _migrate(self) -> None:
        with self._errors():
            local = self._connect(foreign_keys=False)  # a step may rebuild a table that others refer to
            try:
                if check_known(local.db):
                    return
                self._enable_wal(local.db)
                self._begin(local.db)
                try:
                    migrate(local.db)  # looks again: another process may have come first
                    local.db.execute("COMMIT")
                except BaseException:
                    local.db.rollback()
                    raise
            finally:
                local.conn.close()

    def _enable_wal(self, db: Database) -> None:
        """The mode is kept in the file. Two processes at once: SQLite tells one of them "busy" without waiting."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                db.enable_wal()
                return
            except sqlite3.OperationalError as exc:
                if _code(exc) not in _BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what sqlite3 raises into our errors. A number or text that SQLite cannot hold is the caller's."""
        try:
            yield
        except sqlite3.IntegrityError as exc:
            raise Conflict("That contradicts what is stored already.", printable(str(exc))) from exc
        except sqlite3.Error as exc:
            if self._closed:
                raise StoreError("The store is closed.") from exc
            code = _code(exc)
            if code in _BUSY:
                raise StoreBusy("The database is busy; nothing was written.", "Try again in a moment.") from exc
            message, hint = _SENTENCES.get(code, ("{path} reports: " + printable(str(exc)) + ".", ""))
            raise StoreError(message.replace("{path}", str(self.path)), hint) from exc
        except OverflowError as exc:
            raise NotFound("There is nothing with so large a number.") from exc
        except UnicodeEncodeError as exc:
            raise InvalidInput("The text has bytes that are not UTF-8.") from exc


def _code(exc: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 when the driver gave none."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF
