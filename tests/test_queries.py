"""What people type to find things: read exactly, or refused with the word that is not understood."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workspaces.errors import InvalidInput
from workspaces.queries import FIELDS, LENGTH_MAX, Condition, Kind, Listed, Query, Word, parse, quoted

NOW = 1_777_593_600.0  # 1 May 2026
DAY = 86400.0


def read(text: str, listed: Listed = Listed.WORKSPACES) -> Query:
    return parse(text, listed, NOW)


def test_conditions_and_words() -> None:
    found = read(
        'state:running challenge:als idle>7d disk>2G user:alice words "quoted words" -state:failed -"not this"'
    )
    assert found.conditions == (
        Condition("state", "=", ("running",)),
        Condition("challenge", "=", ("als",)),
        Condition("idle", "<", (NOW - 7 * DAY,)),
        Condition("disk", ">", (2 << 30,)),
        Condition("user", "=", ("alice",)),
        Condition("state", "=", ("failed",), negated=True),
    )
    assert found.words == (Word("words"), Word("quoted words"), Word("not this", negated=True))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("STATE:Running,failed", Condition("state", "=", ("running", "failed"))),
        ("idle:>=1d12h", Condition("idle", "<=", (NOW - 1.5 * DAY,))),
        ("idle<90m", Condition("idle", ">", (NOW - 5400,))),
        ("idle>1w", Condition("idle", "<", (NOW - 7 * DAY,))),
        ("disk<=1.5k", Condition("disk", "<=", (1536,))),
        ("disk>3MiB", Condition("disk", ">", (3 << 20,))),
        ("disk>1tb", Condition("disk", ">", (1 << 40,))),
        ("frozen:yes", Condition("frozen", "=", (True,))),
        ("-on:no", Condition("on", "=", (False,), negated=True)),
        ('name:"a,b",c', Condition("name", "=", ("a,b", "c"))),
        ("user:\u201calice\u201d", Condition("user", "=", ("alice",))),
    ],
)  # fmt: skip
def test_one_condition(text: str, condition: Condition) -> None:
    assert read(text) == Query((condition,), ())


def test_moments_are_ages_or_days() -> None:
    assert read("since:2d", Listed.EVENTS).conditions[0].values == (NOW - 2 * DAY,)
    assert read("until:2026-05-01", Listed.EVENTS).conditions[0].values == (NOW,)
    assert read("since:2026-05-01T02:00+02:00", Listed.EVENTS).conditions[0].values == (NOW,)


def test_the_same_said_twice_is_one() -> None:
    assert read("a a state:running state:running") == read("a state:running")


@pytest.mark.parametrize(
    ("text", "word", "known"),
    [
        ("stat:running", "'stat'", "state, challenge"),
        ("state:runing", "'runing'", "absent, starting, running"),
        ("state:", "''", "absent, starting"),
        ("state:running,", "''", "absent"),
        ("state>running", "state is asked for with a colon", "state:running"),
        ("idle:7d", "idle is compared", "idle>7d"),
        ("idle>7", "'7'", "s, m, h, d, w"),
        ("idle>7d3", "'7d3'", "units"),
        ("idle>7x", "'7x'", "units"),
        ("idle>", "''", "units"),
        ("disk>2X", "'2X' is not a size", "k, M, G, T"),
        ("disk>99999999999T", "'99999999999T'", "units"),
        ("disk>-1", "'-1'", "units"),
        ("on:perhaps", "'perhaps'", "yes, no"),
        ("user:", "a name is missing", "user:alice"),
        ("http://x", "'http'", "quotation marks"),
        ('say "this', "not closed", "both sides"),
        ("a " * 21 + " ".join(string.ascii_lowercase), "too much", ""),
        ("x" * (LENGTH_MAX + 1), str(LENGTH_MAX), ""),
    ],
)
def test_what_is_not_understood_is_named_with_what_is_known(text: str, word: str, known: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text)
    assert word in refused.value.message
    assert known in refused.value.hint
    assert refused.value.http_status == 400


@pytest.mark.parametrize(
    "text", ["snapshot:x", "snapshot:1.5", "snapshot:٣", "since:soon", "since:1d,2d", "since:99999-01-01"]
)
def test_numbers_and_moments_are_refused_too(text: str) -> None:
    with pytest.raises(InvalidInput):
        read(text, Listed.EVENTS)


@pytest.mark.parametrize("listed", Listed)
def test_each_example_is_understood(listed: Listed) -> None:
    for name, field in FIELDS[listed].items():
        (condition,) = read(field.example, listed).conditions
        assert condition.field == name
        if field.kind is Kind.CHOICE:
            assert condition.values[0] in field.choices


@given(st.text(max_size=80), st.sampled_from(Listed))
@example('"', Listed.USERS)
@example("-", Listed.USERS)
@example("-:", Listed.USERS)
@example('a:"b', Listed.USERS)
def test_any_text_is_understood_or_refused(text: str, listed: Listed) -> None:
    try:
        found = read(text, listed)
    except InvalidInput:
        return
    for word in found.words:
        assert word.text.strip() == word.text != ""
        assert '"' not in word.text
    for condition in found.conditions:
        assert condition.field in FIELDS[listed]
        assert condition.values


_visible = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters='"“”„'), min_size=1, max_size=20)
_texts = st.lists(_visible, min_size=1, max_size=3).map(" ".join)


@given(st.lists(st.tuples(_texts, st.booleans()), max_size=8))
def test_quoted_words_come_back_as_they_were(texts: list[tuple[str, bool]]) -> None:
    said = " ".join(f"{'-' if negated else ''}{quoted(text)}" for text, negated in texts)
    assert read(said).words == tuple(dict.fromkeys(Word(text, negated) for text, negated in texts))


@given(st.lists(_texts, min_size=1, max_size=5, unique=True))
def test_quoted_values_come_back_as_they_were(names: list[str]) -> None:
    (condition,) = read(f"user:{','.join(map(quoted, names))}").conditions
    assert condition == Condition("user", "=", tuple(names))


def test_every_field_is_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "searching.md").read_text(encoding="utf-8")
    for listed, fields in FIELDS.items():
        for field in fields.values():
            assert f"| {listed} | `{field.example}` | {field.help}" in page
