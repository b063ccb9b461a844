"""The lenient messages of 8 and 9, as tables of shapes, and the frames that carry them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .cbor_strict import MAX_UINT, Reader, encode
from .keys import MAX_SPKI_BYTES
from .network import Network
from .record import MAX_BYTES as MAX_RECORD_BYTES
from .refusal import Refused

Shape = Callable[[Reader], Any]

KIB = 1024
LIMITS = {  # bytes of request and response (8.1)
    "hello": (16 * KIB, 64 * KIB),
    "put": (1024 * KIB, 16 * KIB),
    "get": (64 * KIB, 1088 * KIB),
    "index": (8 * KIB, 256 * KIB),
    "sync": (24 * KIB, 2112 * KIB),
}
STATUSES = ("ok", "busy", "rate_limited", "bad_request", "failed")


class Reply(NamedTuple):
    """The answer to any request (8.2); the body is there if the status is 0."""

    status: int
    retry_after_ms: int | None
    body: dict[str, Any] | None

    @property
    def status_name(self) -> str:
        return STATUSES[min(self.status, len(STATUSES) - 1)]


def _uint(low: int = 0, high: int = MAX_UINT, reason: str = "malformed") -> Shape:
    return lambda reader: reader.uint(low, high, reason=reason)


def _bytes(low: int, high: int | None = None) -> Shape:
    return lambda reader: reader.blob(low, high)


def _optional(shape: Shape) -> Shape:
    return lambda reader: None if reader.null() else shape(reader)


def _list(shape: Shape, low: int, high: int) -> Shape:
    return lambda reader: [shape(reader) for _ in range(reader.array(low, high))]


_ID = _bytes(32)


def _filter_list(high: int) -> Shape:
    ids = _list(_ID, 0, high)

    def read(reader: Reader) -> list[bytes]:
        found: list[bytes] = ids(reader)
        if not found:
            raise Refused("bad_request", "an empty list")
        return found

    return _optional(read)


def _tuple(*shapes: Shape) -> Shape:
    def read(reader: Reader) -> list[Any]:
        reader.array(len(shapes))
        return [shape(reader) for shape in shapes]

    return read


def _map(**shapes: Shape) -> Shape:
    def read(reader: Reader) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(reader.map()):
            key = reader.text(0, len(reader.data))
            if key not in shapes:
                reader.skip()
            elif key in found:
                raise Refused("malformed", f"key {key} given twice")
            else:
                found[key] = shapes[key](reader)
        # An absent key is a null (1.3): the shape says whether it may be.
        return {key: found[key] if key in found else shape(Reader(b"\xf6")) for key, shape in shapes.items()}

    return read


_MD5 = _bytes(16)
_ENTRY, _SPKI, _RECORD = _bytes(0, 524288), _bytes(0, MAX_SPKI_BYTES), _bytes(0, MAX_RECORD_BYTES)
_CURSOR = _tuple(_bytes(8), _uint())

_ROOT = _bytes(16)
_CANDIDATES = _list(_ROOT, 0, 2)
_CLAIM = _tuple(_uint(), _ROOT, _bytes(128), _bytes(128))

_GET_FILTERS = {
    "ids": _filter_list(1024),
    "sids": _optional(_bytes(0, 32768)),
    "tables": _filter_list(64),
    "recipients": _filter_list(128),
    "bucket": _optional(_uint()),
    "seconds_since": _optional(_uint()),
    "created_from": _optional(_uint()),
    "created_until": _optional(_uint()),
    "cursor": _optional(_CURSOR),
}

REQUESTS: dict[str, Shape] = {
    "hello": _map(record=_optional(_RECORD), tables=_optional(_list(_ID, 0, 256))),
    "put": _map(entries=_list(_ENTRY, 1, 256), keys=_list(_SPKI, 0, 16)),
    "get": _map(**_GET_FILTERS, limit=_optional(_uint(1, 1000, "bad_request"))),
    "index": _map(
        table=_optional(_ID), after_table=_optional(_ID), since=_uint(),
        bucket=_optional(_uint()), after=_optional(_ID), limit=_optional(_uint(1, 2048, "bad_request")),
    ),
    "sync": _map(
        since=_uint(), all=_optional(_CANDIDATES), tables=_optional(_list(_tuple(_ID, _CANDIDATES), 0, 256)),
        groups=_optional(_tuple(_ID, _uint(), _optional(_bytes(0, 512)), _uint(), _uint())),
    ),
}  # fmt: skip

RESPONSES: dict[str, Shape] = {
    "hello": _map(record=_RECORD, records=_list(_RECORD, 0, 32)),
    "put": _map(outcomes=_list(_uint(), 1, 256)),
    "get": _map(
        entries=_list(_tuple(_uint(), _ENTRY), 0, 1000), keys=_list(_SPKI, 0, 64), next=_CURSOR,
        more=Reader.boolean,
    ),
    "index": _map(
        since=_uint(), buckets=_list(_tuple(_uint(0, 4095), _uint(1), _MD5), 0, 4096),
        ids=_list(_ID, 0, 2048), tables=_list(_ID, 0, 2048), more=Reader.boolean,
    ),
    "sync": _map(
        since=_uint(), same=_optional(_list(_optional(_uint()), 0, 256)),
        differing=_optional(_list(_CLAIM, 0, 256)),
        groups=_optional(_tuple(_uint(), _ROOT, _bytes(0, 2 << 20))),
    ),
}  # fmt: skip

_ANNOUNCE = _list(_ID, 1, 64)
_NEW_TABLES = _list(_ID, 1, 64)


def _decode(shape: Shape, data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise Refused("too_large", f"expected at most {limit} bytes, got {len(data)}")
    reader = Reader(data, strict=False)
    value = shape(reader)
    reader.finish()
    return value


def decode_request(operation: str, data: bytes, network: Network) -> dict[str, Any]:
    request: dict[str, Any] = _decode(REQUESTS[operation], data, LIMITS[operation][0])
    if operation == "get" and all(request[key] is None for key in _GET_FILTERS):
        raise Refused("bad_request", "no filter")
    if operation == "get" and request["sids"] is not None:
        _check_sids(request)
    if operation == "sync":
        _check_question(request)
    if (bucket := request.get("bucket")) is not None and bucket >> network.bucket_bits:
        raise Refused("bad_request", f"expected a bucket below {1 << network.bucket_bits}, got {bucket}")
    return request


def _check_sids(request: dict[str, Any]) -> None:
    others = set(_GET_FILTERS) - {"sids", "tables"}
    if any(request[key] is not None for key in others) or len(request["tables"] or []) != 1:
        raise Refused("bad_request", "sids with something else than one table")
    words = [request["sids"][i : i + 8] for i in range(0, len(request["sids"]), 8)]
    if not words or any(len(word) != 8 or word == bytes(8) for word in words):
        raise Refused("bad_request", "a sid of another length, or 0")


def _check_question(request: dict[str, Any]) -> None:
    if sum(request[key] is not None for key in ("all", "tables", "groups")) != 1:
        raise Refused("bad_request", "expected exactly one question")
    if request["groups"] is None:
        return
    _, level, which, start, end = request["groups"]
    if level > 12 or not start < end <= 64:
        raise Refused("bad_request", "no such level or syndromes")
    if which is None:
        return
    groups = [g for g in range(8 * len(which)) if which[g // 8] >> 7 - g % 8 & 1]
    if len(which) != -(-(1 << level) // 8) or not groups or groups[-1] >> level:
        raise Refused("bad_request", "no such groups")


def decode_reply(operation: str, data: bytes) -> Reply:
    def shape(reader: Reader) -> Reply:
        reader.array(3)
        status, retry_after_ms = reader.uint(), _optional(_uint())(reader)
        if status == 0:
            return Reply(status, retry_after_ms, RESPONSES[operation](reader))
        reader.skip()
        return Reply(status, retry_after_ms, None)

    reply: Reply = _decode(shape, data, LIMITS[operation][1])
    return reply


def encode_reply(body: dict[str, Any]) -> bytes:
    return encode([0, None, body])


def decode_announce(data: bytes) -> list[bytes]:
    ids: list[bytes] = _decode(_ANNOUNCE, data, 64 * KIB)
    return ids


def decode_new_tables(data: bytes) -> list[bytes]:
    tables: list[bytes] = _decode(_NEW_TABLES, data, 64 * KIB)
    return tables


def frame(data: bytes) -> bytes:
    """The object behind its length (8.1)."""
    length, head = len(data), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + data


def unframe(data: bytes, limit: int) -> bytes:
    """The object of a stream that holds one frame and nothing else."""
    length = 0
    for i, byte in enumerate(data[:4]):
        length |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            break
    else:
        raise Refused("malformed", "a length of more than 4 bytes, or none")
    if i and byte == 0:
        raise Refused("non_canonical", "a length that is not in its shortest form")
    if length > limit:
        raise Refused("too_large", f"expected at most {limit} bytes, got {length}")
    if length != len(data) - i - 1:
        raise Refused("malformed", f"expected {length} bytes behind the length, got {len(data) - i - 1}")
    return data[i + 1 :]
