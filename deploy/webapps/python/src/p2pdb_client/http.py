"""Requests to the daemon, and its errors."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlencode, urlsplit

_PREFIX = "urn:p2pdb:problem:"


class Problem(Exception):
    """An error answer of the daemon (RFC 9457)."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        #: What went wrong, as in ``no-token``: stable, to branch on.
        self.type = str(body.get("type", ""))[len(_PREFIX) :]
        self.title = str(body.get("title", "the gateway failed"))
        self.detail = str(body.get("detail", ""))
        #: What to do about it, to be shown.
        self.fix = str(body.get("fix", ""))
        super().__init__(f"{self.title}: {self.detail} ({self.fix})")


class GatewayNotRunning(ConnectionError):
    """No daemon was found, or it does not answer."""


class SpaceChanged(Exception):
    """The space has another card, so that what was read of it is of another table: begin anew, without a cursor."""

    def __init__(self, space: str) -> None:
        self.space = space
        super().__init__(f"the space {space} has another table now")


def find(url: Optional[str], token: Optional[str], home: Optional[str]) -> tuple[str, str]:
    """URL and token: given, of the environment, or of the daemon that runs on the home.

    What is given goes first. The owner's token of a home goes to the daemon of that home alone.
    """
    if url is None and home is None:
        url = os.environ.get("P2PDB_GATEWAY_URL")
        token = token or os.environ.get("P2PDB_GATEWAY_TOKEN")
    if url and token:
        return url, token
    if home is None:
        data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        home = os.environ.get("P2PDB_HOME") or str(Path(data) / "p2pdb")
    directory = Path(home) / "gateway"
    try:
        running = (directory / "url").read_text().strip()
        found = token or (directory / "token").read_text().strip()
    except OSError as error:
        raise GatewayNotRunning(f"no gateway runs on {home}: start one with `p2pdb gateway`") from error
    if url and url.rstrip("/") != running:
        raise ValueError(f"a token is needed for {url}: that of {home} is for {running} alone")
    return running, found


class Http:
    """One connection a request: the daemon is on this machine, and threads need not share anything."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"expected a URL such as http://127.0.0.1:4780, got {url!r}")
        self._host, self._port = parts.hostname, parts.port or 80
        self._token = token
        self._timeout = timeout

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Optional[Any],
        headers: Mapping[str, str],
        timeout: Optional[float],
    ) -> http.client.HTTPResponse:
        pairs: list[tuple[str, str]] = []
        for name, value in query.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            pairs.extend((name, str(one)) for one in values if one is not None)
        target = f"{path}?{urlencode(pairs)}" if pairs else path
        sent: dict[str, str] = {"Authorization": f"Bearer {self._token}", "Connection": "close", **headers}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            connection.request(method, target, body=data, headers=sent)
            response = connection.getresponse()
        except ConnectionRefusedError as error:
            raise GatewayNotRunning(f"no gateway answers at {self._host}:{self._port}") from error
        if response.status >= 400:
            raise Problem(response.status, _json_or_nothing(response.read()))
        return response

    def call(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Any]] = None,
        body: Optional[Any] = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        """What the daemon answers, or nothing."""
        wait = self._timeout if timeout is None else timeout
        with self._open(method, path, query or {}, body, headers or {}, wait) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def events(
        self,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
        stop: Optional[threading.Event] = None,
    ) -> Iterator[tuple[str, Optional[str], Any]]:
        """Name, id and data of each event, until the stream ends, or until the next heartbeat after ``stop`` is set."""
        headers = {"Accept": "text/event-stream", **headers}
        # The daemon says every 25 seconds that it is alive.
        with self._open("GET", path, query, None, headers, max(self._timeout, 60.0)) as response:
            name = "message"
            identifier: Optional[str] = None
            data: list[str] = []
            for raw in response:
                if stop is not None and stop.is_set():
                    return
                line = raw.decode().rstrip("\r\n")
                field, _, value = line.partition(": ")
                if not line and data:
                    yield name, identifier, json.loads("\n".join(data))
                    name, data = "message", []
                elif field == "event":
                    name = value
                elif field == "id":
                    identifier = value
                elif field == "data":
                    data.append(value)


def _json_or_nothing(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
