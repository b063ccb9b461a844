"""What the daemon tells of."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Progress:
    """How far a proof of work is."""

    solved: int
    of: int
    hashes: int
    eta_s: Optional[int]


@dataclass(frozen=True)
class Job:
    """An entry on its way to the nodes."""

    id: str
    space: str
    #: ``queued``, ``sending``, ``stored``, ``failed``, ``cancelled`` or ``abandoned``.
    state: str
    #: The nodes that hold it durably.
    nodes: list[str]
    progress: Optional[Progress]
    error: Optional[str]
    can_cancel: bool

    @property
    def is_settled(self) -> bool:
        return self.state in ("stored", "failed", "cancelled", "abandoned")

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Job:
        progress = json.get("progress")
        return cls(
            id=json["id"],
            space=json["space"],
            state=json["state"],
            nodes=json["nodes"],
            progress=progress
            and Progress(progress["solved"], progress["of"], progress["hashes"], progress.get("eta_s")),
            error=json.get("error"),
            can_cancel=json["can_cancel"],
        )


@dataclass(frozen=True)
class Entry:
    """An entry, opened if the daemon has a key of it."""

    id: str
    #: Unix seconds, as its poster claims.
    created: int
    expires: Optional[int]
    #: Names, or ids of keys that have none here.
    recipients: list[str]
    #: Whether one of the daemon's keys opens it.
    is_readable: bool
    #: ``str``, ``bytes`` or what JSON can say; ``None`` too if it is not readable.
    content: Any
    type: Optional[str]
    #: Name or id of the key that signed it, verified.
    author: Optional[str]
    opened_by: Optional[str]
    #: The whole entry as nodes have it, if it was asked for.
    raw: Optional[bytes]
    #: Continues behind this entry; of entries that were followed alone.
    cursor: Optional[str] = None

    @classmethod
    def of(cls, json: Mapping[str, Any], cursor: Optional[str] = None) -> Entry:
        content = json.get("content")
        raw = json.get("raw")
        return cls(
            id=json["id"],
            created=json["created"],
            expires=json.get("expires"),
            recipients=[_name(key) for key in json["recipients"]],
            is_readable=content is not None,
            content=_value(content) if content is not None else None,
            type=content.get("type") if content is not None else None,
            author=_name(json["author"]) if "author" in json else None,
            opened_by=_name(json["opened_by"]) if "opened_by" in json else None,
            raw=base64.b64decode(raw) if raw is not None else None,
            cursor=cursor,
        )


@dataclass(frozen=True)
class Page:
    """Entries, and where they go on."""

    entries: list[Entry]
    next: Optional[str]
    more: bool

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Page:
        return cls([Entry.of(entry) for entry in json["entries"]], json.get("next"), json["more"])


def _name(key: Mapping[str, Any]) -> str:
    return str(key.get("name") or key["id"])


def _value(content: Mapping[str, Any]) -> Any:
    if "base64" in content:
        return base64.b64decode(content["base64"])
    return content["text"] if "text" in content else content["json"]


def content_json(content: Any, media_type: Optional[str]) -> dict[str, Any]:
    """A value as the daemon takes it."""
    json: dict[str, Any]
    if isinstance(content, str):
        json = {"text": content}
    elif isinstance(content, (bytes, bytearray, memoryview)):
        json = {"base64": base64.b64encode(bytes(content)).decode()}
    else:
        json = {"json": content}
    if media_type is not None:
        json["type"] = media_type
    return json
