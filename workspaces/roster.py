"""A list of people as CSV: checked as a whole, shown, and only then carried out, all of it or nothing.

    bytes ─► parse ─► rows, and what is wrong with which line ─► plan: what each row will do here, or why not ─► enrol
    store ─► export ─► the same columns and what is known besides

A row makes what is not there yet: the account, its key and address, the workspace, the membership. Rows with the same
workspace make a team. A list may be sent again: what is there already stays as it is. Passwords are not in lists.
An export is a list too: its `role` and `disabled` are not carried out, and a row that would change them is refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass

from workspaces.accounts import parse_key_line
from workspaces.errors import Conflict, InvalidInput, NotFound, WorkspacesError
from workspaces.model import Role
from workspaces.names import check_address, check_name, printable
from workspaces.store import Store

COLUMNS = ("name", "challenge", "workspace", "email", "key")
TOLD = ("role", "disabled")
MAX_BYTES = 1 << 20
MAX_ROWS = 5000
MAX_PROBLEMS = 100
PART = 200  # accounts that an export reads at once
DELIMITERS = ",;\t"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell is one to a spreadsheet (OWASP, "CSV Injection")


@dataclass(frozen=True, slots=True)
class Row:
    """One person in one workspace; `line` is where the row begins, the header being line 1. Empty: not said."""

    line: int
    name: str
    challenge: str = ""
    workspace: str = ""
    email: str = ""
    key: str = ""
    role: str = ""
    disabled: str = ""

    @property
    def ref(self) -> str:
        """The workspace; by itself a row means one of the person's own name."""
        return f"{self.challenge}/{self.workspace or self.name}" if self.challenge else ""


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    column: str  # empty: the whole line
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a row does: `does` are of account, key, email, workspace, member; nothing when all is there."""

    row: Row
    does: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]

    @property
    def mark(self) -> str:
        """Another one for each plan that does something else."""
        said = [(astuple(step.row), step.does) for step in self.steps]
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]

    def count(self, what: str) -> int:
        """How many rows do that."""
        return sum(what in step.does for step in self.steps)


def parse(data: bytes, challenge: str = "") -> tuple[list[Row], list[Problem]]:
    """The rows of a CSV file with a header, and what is wrong with others. `challenge` is that of rows that name none.

    Comma, semicolon or tab; UTF-8. Raises InvalidInput when it is no such file at all.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"The list has {len(data)} bytes; {MAX_BYTES} are allowed.", "Send it in parts.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise InvalidInput(f"Line {line} of the list is not UTF-8.", "Save it as CSV UTF-8.") from exc
    lines = _lines(text)
    number, header = next(lines, (1, []))
    names = [cell.strip().lower() for cell in header]
    if "name" not in names or len(names) != len(set(names)) or not set(names) <= {*COLUMNS, *TOLD}:
        raise InvalidInput(
            f"The first line must name the columns, name and any of {', '.join(COLUMNS[1:])}, each once.",
            f"It is: {printable(','.join(header), 200)}",
        )
    rows: list[Row] = []
    problems: list[Problem] = []
    for count, (number, cells) in enumerate(lines):
        if count >= MAX_ROWS:
            raise InvalidInput(f"The list has more than {MAX_ROWS} rows.", "Send it in parts.")
        if len(cells) > len(names):
            problems.append(Problem(number, "", f"It has {len(cells)} cells; there are {len(names)} columns."))
            continue
        said = dict(zip(names, map(_plain, cells), strict=False))
        row = Row(number, **{**said, "challenge": said.get("challenge") or challenge})
        problems += (found := list(_problems(row)))
        if not found:
            rows.append(row)
    return rows, problems + list(_twice(rows))


def plan(store: Store, rows: list[Row], problems: list[Problem]) -> Plan:
    """What the rows do to this store, and with `problems` what keeps them from it."""
    steps, found, made = [], list(problems), set[str]()
    challenges = {challenge.slug for challenge in store.challenges()}
    for row in rows:
        try:
            steps.append(Step(row, tuple(_does(store, row, challenges, made))))
        except WorkspacesError as error:
            found.append(Problem(row.line, "", error.message))
    return Plan(tuple(steps), tuple(sorted(found, key=lambda problem: problem.line)[:MAX_PROBLEMS]))


def enrol(store: Store, rows: list[Row], *, seen: str | None = None, actor: str) -> Plan:
    """Carry out what `plan` says, in one transaction. Raises Conflict, naming the first line that cannot be.

    `seen` is the mark of the plan that somebody agreed to: Conflict when it would do something else by now.
    """
    with store.transaction():
        found = plan(store, rows, [])
        for problem in found.problems:
            raise Conflict(f"Line {problem.line}: {problem.message}", "Nothing was done.")
        if seen is not None and seen != found.mark:
            raise Conflict("By now the list would do something else, as somebody has changed what is here.",
                           "Nothing was done. Look at what it does now, and send it again.")  # fmt: skip
        for step in found.steps:
            row = step.row
            if "account" in step.does:
                store.add_user(row.name, Role.PARTICIPANT, None, actor=actor)
            if "email" in step.does:
                store.set_email(row.name, row.email, actor=actor)
            if "key" in step.does:
                store.add_key(row.name, *parse_key_line(row.key), actor=actor)
            if "workspace" in step.does:
                store.add_workspace(row.challenge, row.workspace or row.name, [row.name], actor=actor)
            elif "member" in step.does:
                store.add_member(store.workspace(row.ref).id, row.name, actor=actor)
    return found


def export(store: Store) -> Iterator[str]:
    """CSV of accounts, in the order in which they were made, a line for each workspace of each; for spreadsheets too.

    They are read in parts, as they are asked for. Raises StoreError.
    """
    yield _csv(["name", "challenge", "workspace", "email", *TOLD])
    after: int | None = 0
    while after is not None:
        part = store.walk_users(after=after, size=PART)
        for line in part.items:
            user = line.user
            for _id, ref in line.workspaces or ((0, "/"),):
                challenge, _, workspace = ref.partition("/")
                yield _csv([user.name, challenge, workspace, user.email or "", user.role, _yes(user.disabled)])
        after = part.next


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with something in it, and the line that it begins on. Raises InvalidInput for what is no CSV."""
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as exc:
        what = f"Line {begins} of the list is not CSV: {exc}."
        raise InvalidInput(what, "Put cells with commas, quotes or line ends into quotes.") from exc


def _problems(row: Row) -> Iterator[Problem]:
    checks: dict[str, Callable[[], object]] = {
        "name": lambda: check_name(row.name, "user"),
        "challenge": lambda: row.challenge and check_name(row.challenge, "challenge"),
        "workspace": lambda: row.workspace and check_name(row.workspace, "workspace"),
        "email": lambda: row.email and check_address(row.email),
        "key": lambda: row.key and parse_key_line(row.key),
    }
    for column, check in checks.items():
        try:
            check()
        except InvalidInput as error:
            yield Problem(row.line, column, f"{error.message} {error.hint}".strip())
    if row.workspace and not row.challenge:
        yield Problem(row.line, "challenge", "A workspace needs the challenge that it is in.")


def _twice(rows: list[Row]) -> Iterator[Problem]:
    """What is said of one person or key in more than one way."""
    spaces: dict[tuple[str, str], int] = {}
    keys: dict[str, Row] = {}
    emails: dict[str, Row] = {}
    for row in rows:
        if (before := spaces.setdefault((row.name, row.ref), row.line)) != row.line:
            yield Problem(row.line, "name", f"{row.name} in {row.ref or 'no workspace'} is on line {before} already.")
        if row.key:
            other = keys.setdefault(parse_key_line(row.key)[0], row)
            if other.name != row.name:
                yield Problem(row.line, "key", f"It is {other.name}'s on line {other.line} already.")
        if row.email and (known := emails.setdefault(row.name, row)).email != row.email:
            yield Problem(row.line, "email", f"{row.name} has another address on line {known.line}.")


def _does(store: Store, row: Row, challenges: set[str], made: set[str]) -> Iterator[str]:
    """`made` are accounts, keys and workspaces of rows before. Raises NotFound, Conflict."""
    user = store.find_user(row.name)
    role, disabled = (user.role, user.disabled) if user else (Role.PARTICIPANT, False)
    if row.role not in ("", role):
        raise Conflict(f"A list changes no roles: {row.name} {'has' if user else 'gets'} the role {role}.")
    if row.disabled not in ("", _yes(disabled)):
        raise Conflict(f"A list disables and enables nobody: {row.name} is {'' if disabled else 'not '}disabled.")
    if user is None and f"user {row.name}" not in made:
        made.add(f"user {row.name}")
        yield "account"
    if row.email and (user is None or user.email != row.email) and f"email {row.name}" not in made:
        made.add(f"email {row.name}")
        yield "email"
    if row.key:
        fingerprint = parse_key_line(row.key)[0]
        owner = store.key_owner(fingerprint)
        if owner is not None and owner.name != row.name:
            raise Conflict("The key belongs to another account.")
        if owner is None and fingerprint not in made:
            made.add(fingerprint)
            yield "key"
    if not row.challenge:
        return
    if row.challenge not in challenges:
        raise NotFound(f"There is no challenge {row.challenge}.")
    try:
        members = store.workspace(row.ref).members
    except NotFound:
        members = ()
        if row.ref not in made:
            made.add(row.ref)
            yield "workspace"
            return
    if row.name not in members:
        yield "member"


def _yes(disabled: bool) -> str:
    return "yes" if disabled else "no"


def _plain(cell: str) -> str:
    """What the cell says, without the quote that `_csv` puts before what a spreadsheet would take for a formula."""
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def _csv(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells])
    return line.getvalue()
