"""The client."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Optional
from urllib.parse import quote

from .http import GatewayNotRunning, Http, Problem, SpaceChanged, find
from .model import Entry, Job, Page, content_json

#: What a broken connection raises.
_BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError)
#: Pause before a stream is taken up again, in seconds.
_PAUSE = 0.5


class Client:
    """A daemon. Its methods may be called from several threads."""

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        home: Optional[str] = None,
        timeout: float = 30.0,
    ) -> None:
        """URL and token; without them those of the environment, or of the daemon that runs on the home."""
        self._given = (url, token, home)
        self._timeout = timeout
        self._http = Http(*find(url, token, home), timeout)

    def put(
        self,
        space: str,
        content: Any,
        recipients: Optional[Sequence[str]] = None,
        *,
        type: Optional[str] = None,
        author: Optional[str] = None,
        expires_after: Optional[int] = None,
        wait: Optional[float] = None,
        idempotency_key: Optional[str] = None,
    ) -> Job:
        """Posts an entry. The daemon has it durably when this returns.

        ``recipients`` are names or ids of keys, public keys as PEM, or ``me``; by default the recipient that
        the readers of the space share. ``wait`` is how many seconds to wait until a node holds it.
        """
        body: dict[str, Any] = {"space": space, "content": content_json(content, type)}
        for name, value in (("author", author), ("expires_after", expires_after)):
            if value is not None:
                body[name] = value
        if recipients is not None:
            body["recipients"] = list(recipients)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        query = {} if wait is None else {"wait": "stored", "timeout": int(wait)}
        timeout = None if wait is None else wait + self._timeout
        try:
            return Job.of(self._http.call("POST", "/v1/put", query, body, headers, timeout))
        except GatewayNotRunning:
            raise
        except _BROKEN:
            # The idempotency key makes it one entry, whether or not the daemon had it.
            return Job.of(self._http.call("POST", "/v1/put", query, body, headers, timeout))

    def job(self, id: str) -> Job:
        """What became of an entry that was put."""
        return Job.of(self._http.call("GET", f"/v1/jobs/{quote(id)}"))

    def jobs(self, space: Optional[str] = None, state: Optional[str] = None, limit: int = 100) -> list[Job]:
        """What was put, the newest first."""
        query = {"space": space, "state": state, "limit": limit}
        return [Job.of(job) for job in self._http.call("GET", "/v1/jobs", query)["jobs"]]

    def watch(self, id: str, *, stop: Optional[threading.Event] = None) -> Iterator[Job]:
        """The job as it is, and whenever it changes, until it is settled or, soon, after ``stop`` is set."""
        for _, _, data in self._http.events(f"/v1/jobs/{quote(id)}/events", {}, {}, stop):
            yield Job.of(data)

    def cancel(self, id: str) -> Job:
        """Withdraws a job, or gives it up (``abandoned``) if a node may have its entry; a :class:`Problem` of type
        ``conflict`` if one holds it."""
        return Job.of(self._http.call("DELETE", f"/v1/jobs/{quote(id)}"))

    def get(self, space: str, *, cursor: Optional[str] = None, **filters: Any) -> Page:
        """A page of entries: ``recipient``, ``id`` (lists), ``bucket``, ``seconds_since``, ``created_from``,
        ``created_until``, ``limit``, ``raw=1``, ``mode="remote"`` (one page, without a cursor)."""
        return Page.of(self._http.call("GET", "/v1/get", {"space": space, "cursor": cursor, **filters}))

    def entries(self, space: str, *, cursor: Optional[str] = None, **filters: Any) -> Iterator[Entry]:
        """All entries that :meth:`get` finds, page after page; of nodes, with ``mode="remote"``, one page."""
        while True:
            page = self.get(space, cursor=cursor, **filters)
            yield from page.entries
            cursor = page.next
            # Nodes have no common order to go on in: what they answer has no cursor.
            if not page.more or cursor is None:
                return

    def changes(self, space: str, *, cursor: Optional[str] = None, **filters: Any) -> Page:
        """A page of what arrived behind the cursor; ``cursor="now"`` gives the cursor to begin with."""
        return Page.of(self._http.call("GET", "/v1/changes", {"space": space, "cursor": cursor, **filters}))

    def follow(
        self,
        space: str,
        *,
        cursor: Optional[str] = None,
        stop: Optional[threading.Event] = None,
        **filters: Any,
    ) -> Iterator[Entry]:
        """Entries as they arrive, without end, also after the daemon was started anew. Ends within half a minute after
        ``stop`` is set.

        Begins with the first entry; with the next one if the cursor is ``now``. Raises :class:`SpaceChanged` when the
        space has another card: what comes then is of another table.
        """
        if cursor == "now":
            cursor = self.changes(space, cursor="now").next
        while stop is None or not stop.is_set():
            headers = {} if cursor is None else {"Last-Event-ID": cursor}
            try:
                for name, cursor_here, data in self._http.events(
                    "/v1/changes", {"space": space, **filters}, headers, stop
                ):
                    if name == "reset":
                        raise SpaceChanged(space)
                    cursor = cursor_here or cursor
                    if name == "entry":
                        yield Entry.of(data, cursor_here)
            except _BROKEN:
                pass
            except Problem as problem:
                # With each start the owner has a new token; whose token was given has no other.
                if problem.status != 401 or self._given[1] is not None:
                    raise
            time.sleep(_PAUSE)
            try:
                self._http = Http(*find(*self._given), self._timeout)
            except GatewayNotRunning:
                continue

    def index(self, space: str, **filters: Any) -> list[dict[str, Any]]:
        """Counts and MD5s of buckets, or the ids of one: ``since``, ``bucket``, ``after``, ``mode``."""
        listings: list[dict[str, Any]] = self._http.call("GET", "/v1/index", {"space": space, **filters})[
            "listings"
        ]
        return listings

    def hello(self, space: Optional[str] = None) -> dict[str, Any]:
        """The network and the nodes that are known."""
        answer: dict[str, Any] = self._http.call("GET", "/v1/hello", {"space": space})
        return answer

    def status(self) -> dict[str, Any]:
        """How the daemon is."""
        answer: dict[str, Any] = self._http.call("GET", "/v1/status")
        return answer

    def spaces(self) -> list[dict[str, Any]]:
        """The spaces that the token is for."""
        spaces: list[dict[str, Any]] = self._http.call("GET", "/v1/spaces")["spaces"]
        return spaces

    def import_card(self, space: str, card: str) -> dict[str, Any]:
        """Points a space at the table of a card; the owner's token alone may."""
        answer: dict[str, Any] = self._http.call("PUT", f"/v1/spaces/{quote(space)}", body={"card": card})
        return answer

    def keys(self) -> list[dict[str, Any]]:
        """The keys of the home, their public halves as PEM."""
        keys: list[dict[str, Any]] = self._http.call("GET", "/v1/keys")["keys"]
        return keys

    def make_token(
        self, name: str, spaces: Sequence[str], may: Sequence[str], origin: Optional[str] = None
    ) -> str:
        """A token for an app; the owner's token alone may."""
        body = {"name": name, "spaces": list(spaces), "may": list(may), "origin": origin}
        return str(self._http.call("POST", "/v1/tokens", body=body)["token"])

    def login(self, key: str, challenge: str, origin: Optional[str] = None) -> str:
        """The answer to a login challenge."""
        body = {"key": key, "challenge": challenge, "origin": origin}
        return str(self._http.call("POST", "/v1/login", body=body)["answer"])
