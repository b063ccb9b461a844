"""The client for asyncio: the same one, on threads, so that it too needs nothing but the standard library."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Callable, Optional, TypeVar

from .client import Client
from .model import Entry, Job, Page

T = TypeVar("T")
_END = object()


def _serve(
    loop: asyncio.AbstractEventLoop,
    items: Iterator[Any],
    wanted: queue.SimpleQueue[Optional[asyncio.Future[Any]]],
) -> None:
    """Gives an item for each future that is asked for one."""
    while (future := wanted.get()) is not None:
        item: Any = None
        error: Optional[Exception] = None
        try:
            item = next(items, _END)
        except Exception as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(_settle, future, item, error)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return


def _settle(future: asyncio.Future[Any], item: Any, error: Optional[Exception]) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(item)
    else:
        future.set_exception(error)


class AsyncClient:
    """A daemon, for asyncio. The arguments are those of :class:`Client` and its methods."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self._client = Client(*args, **named)

    async def _call(self, method: Callable[..., T], *args: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: method(*args, **named))

    async def _each(self, items: Callable[[threading.Event], Iterator[T]]) -> AsyncIterator[T]:
        """On a thread of its own, that no other call waits for, nor the end of the program."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        wanted: queue.SimpleQueue[Optional[asyncio.Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(loop, items(stop), wanted), daemon=True).start()
        try:
            while True:
                future = loop.create_future()
                wanted.put(future)
                item = await future
                if item is _END:
                    return
                yield item
        finally:
            stop.set()
            wanted.put(None)

    async def put(self, *args: Any, **named: Any) -> Job:
        return await self._call(self._client.put, *args, **named)

    async def job(self, id: str) -> Job:
        return await self._call(self._client.job, id)

    async def jobs(self, *args: Any, **named: Any) -> list[Job]:
        return await self._call(self._client.jobs, *args, **named)

    async def cancel(self, id: str) -> Job:
        return await self._call(self._client.cancel, id)

    async def get(self, *args: Any, **named: Any) -> Page:
        return await self._call(self._client.get, *args, **named)

    async def changes(self, *args: Any, **named: Any) -> Page:
        return await self._call(self._client.changes, *args, **named)

    async def index(self, *args: Any, **named: Any) -> list[dict[str, Any]]:
        return await self._call(self._client.index, *args, **named)

    async def hello(self, space: Optional[str] = None) -> dict[str, Any]:
        return await self._call(self._client.hello, space)

    async def status(self) -> dict[str, Any]:
        return await self._call(self._client.status)

    async def spaces(self) -> list[dict[str, Any]]:
        return await self._call(self._client.spaces)

    async def import_card(self, space: str, card: str) -> dict[str, Any]:
        return await self._call(self._client.import_card, space, card)

    async def keys(self) -> list[dict[str, Any]]:
        return await self._call(self._client.keys)

    async def make_token(self, *args: Any, **named: Any) -> str:
        return await self._call(self._client.make_token, *args, **named)

    async def login(self, key: str, challenge: str, origin: Optional[str] = None) -> str:
        return await self._call(self._client.login, key, challenge, origin)

    def watch(self, id: str) -> AsyncIterator[Job]:
        return self._each(lambda stop: self._client.watch(id, stop=stop))

    def entries(self, *args: Any, **named: Any) -> AsyncIterator[Entry]:
        return self._each(lambda _: self._client.entries(*args, **named))

    def follow(self, *args: Any, **named: Any) -> AsyncIterator[Entry]:
        return self._each(lambda stop: self._client.follow(*args, stop=stop, **named))
