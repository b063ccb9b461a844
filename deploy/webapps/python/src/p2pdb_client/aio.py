"""The client for asyncio: the same one, on threads, so that it too needs nothing but the standard library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Callable, Optional, TypeVar

from .client import Client
from .model import Entry, Job, Page

T = TypeVar("T")
_END = object()


class AsyncClient:
    """A daemon, for asyncio. The arguments are those of :class:`Client` and its methods."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self._client = Client(*args, **named)

    async def _call(self, method: Callable[..., T], *args: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: method(*args, **named))

    async def _each(self, items: Iterator[T]) -> AsyncIterator[T]:
        while True:
            item = await self._call(next, items, _END)
            if item is _END:
                return
            yield item

    async def put(self, *args: Any, **named: Any) -> Job:
        return await self._call(self._client.put, *args, **named)

    async def job(self, id: str) -> Job:
        return await self._call(self._client.job, id)

    async def cancel(self, id: str) -> Job:
        return await self._call(self._client.cancel, id)

    async def get(self, *args: Any, **named: Any) -> Page:
        return await self._call(self._client.get, *args, **named)

    async def changes(self, *args: Any, **named: Any) -> Page:
        return await self._call(self._client.changes, *args, **named)

    async def status(self) -> dict[str, Any]:
        return await self._call(self._client.status)

    async def spaces(self) -> list[dict[str, Any]]:
        return await self._call(self._client.spaces)

    async def login(self, key: str, challenge: str, origin: Optional[str] = None) -> str:
        return await self._call(self._client.login, key, challenge, origin)

    def watch(self, id: str) -> AsyncIterator[Job]:
        return self._each(self._client.watch(id))

    def entries(self, *args: Any, **named: Any) -> AsyncIterator[Entry]:
        return self._each(self._client.entries(*args, **named))

    def follow(self, *args: Any, **named: Any) -> AsyncIterator[Entry]:
        return self._each(self._client.follow(*args, **named))
