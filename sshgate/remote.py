"""The keeper as a worker sees it: questions go to the coordinator, and each has an answer, in a few seconds at most.

    Gate ──► Remote.sessions(7, 2) ──► link ──► coordinator ──► Keeper ──► {"do": "answer", "id": …, "is": null}

The coordinator may be away for a second while it replaces itself with a new version. The new one asks for a report:
what every connection holds, and after that, once more, whatever waits for an answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sshgate import texts
from sshgate.link import Link, Message

ANSWER_SECONDS = 10.0
WAITING_MAX = 4096  # questions
ROWS = 100  # connections in one packet of a report

Row = tuple[int, str, str | None, int, int]
"""One connection's number, address, account if it is authenticated, and counts of sessions and streams."""


class Remote:
    """`keeper.Shared` over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[Message, asyncio.Future[Any]]] = {}

    async def authenticated(self, number: int, account: str) -> str | None:
        answer: str | None = await self._ask(texts.UNSETTLED, lazy=True, do="authenticated", n=number, account=account)
        return answer

    async def sessions(self, number: int, count: int) -> str | None:
        answer: str | None = await self._ask(texts.UNSETTLED, do="sessions", n=number, count=count)
        return answer

    async def streams(self, number: int, count: int) -> str | None:
        answer: str | None = await self._ask(texts.UNSETTLED, do="streams", n=number, count=count)
        return answer

    async def guess(self, account: str, address: str) -> float:
        return float(await self._ask(ANSWER_SECONDS, do="guess", account=account[:64], address=address))

    async def too_many_codes(self, account: str) -> bool:
        return bool(await self._ask(True, do="too_many_codes", account=account[:64]))

    async def attend(self, workspace_id: int, socket: Path, user: str) -> None:
        await self._ask(None, do="attend", workspace=workspace_id, socket=str(socket), user=user)

    async def where(self, workspace_id: int) -> Path | None:
        answer = await self._ask(None, do="where", workspace=workspace_id)
        return None if answer is None else Path(answer)

    def right(self, account: str, address: str) -> None:
        self._link.send(do="right", account=account[:64], address=address)

    def wrong_code(self, account: str) -> None:
        self._link.send(do="wrong_code", account=account[:64])

    def fewer(self, number: int, count: int) -> None:
        self._link.send(lazy=True, do="fewer", n=number, count=count)

    def fewer_streams(self, number: int, count: int) -> None:
        self._link.send(lazy=True, do="fewer_streams", n=number, count=count)

    def left(self, number: int) -> None:
        self._link.send(lazy=True, do="left", n=number)

    def answered(self, message: Message) -> None:
        """The coordinator's answer came. Nothing happens when nobody waits for it any more."""
        waiting = self._waiting.get(message["id"])
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(message["is"])

    def report(self, rows: Iterable[Row]) -> None:
        """Tell a new coordinator what there is."""
        every = list(rows)
        for start in range(0, len(every), ROWS):
            self._link.send(do="rows", rows=every[start : start + ROWS])
        self._link.send(do="reported")
        for message, _ in self._waiting.values():
            self._link.send(**message)

    async def _ask(self, otherwise: object, lazy: bool = False, **message: Any) -> Any:
        """The answer, or `otherwise` when none comes."""
        if len(self._waiting) >= WAITING_MAX:
            return otherwise
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = {"id": number, **message}, future
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._link.send(lazy=lazy, **self._waiting[number][0])
                return await future
        except TimeoutError:
            return otherwise
        finally:
            del self._waiting[number]
