from typing import Any

import pytest
from conftest import reason

from p2pdb_spec import messages
from p2pdb_spec.cbor_strict import encode
from p2pdb_spec.network import Network

ID, SPKI, CURSOR, ROOT = b"i" * 32, b"k" * 294, [b"s" * 8, 5], b"r" * 16
REQUESTS: dict[str, list[dict[str, Any]]] = {
    "hello": [{"record": None, "tables": None}, {"record": b"r", "tables": [ID]}],
    "put": [{"entries": [b"e"], "keys": []}, {"entries": [b"e"] * 256, "keys": [SPKI] * 16}],
    "get": [
        dict.fromkeys(messages._GET_FILTERS) | {"bucket": 0, "limit": None},
        dict.fromkeys(messages._GET_FILTERS) | {"sids": b"s" * 16, "tables": [ID], "limit": 9},
        {"ids": [ID] * 1024, "sids": None, "tables": [ID], "recipients": [ID], "bucket": 4095, "seconds_since": 0,
         "created_from": 0, "created_until": 2**64 - 1, "cursor": CURSOR, "limit": 1000},
    ],
    "index": [{"table": None, "after_table": ID, "since": 0, "bucket": None, "after": None, "limit": None},
              {"table": ID, "after_table": None, "since": 9, "bucket": 7, "after": ID, "limit": 2048}],
    "sync": [{"since": 5, "all": [ROOT, ROOT], "tables": None, "groups": None},
             {"since": 5, "all": None, "tables": [[ID, [ROOT]]] * 256, "groups": None},
             {"since": 5, "all": None, "tables": None, "groups": [ID, 3, b"\x81", 0, 17]}],
}  # fmt: skip
RESPONSES: dict[str, dict[str, Any]] = {
    "hello": {"record": b"r", "records": [b"r"] * 32},
    "put": {"outcomes": [0, 1, 43, 999]},
    "get": {"entries": [[1, b"e"], [2, b"e"]], "keys": [SPKI], "next": CURSOR, "more": True},
    "sync": {"since": 0, "same": [0, None], "differing": [[1, ROOT, b"t" * 128, b"s" * 128]],
             "groups": None},
    "index": {"since": 0, "buckets": [[0, 1, b"d" * 16]], "ids": [], "tables": [], "more": False},
}
CASES = [(operation, request) for operation, requests in REQUESTS.items() for request in requests]


@pytest.mark.parametrize(("operation", "request_"), CASES)
def test_requests_round_trip(operation: str, request_: dict[str, Any]) -> None:
    assert messages.decode_request(operation, encode(request_), Network()) == request_
    given = {key: value for key, value in request_.items() if value is not None}
    assert messages.decode_request(operation, encode(given), Network()) == request_
    extended = {"new": [{"a": [1]}], **given, "newer": 1}
    assert messages.decode_request(operation, encode(extended), Network()) == request_


@pytest.mark.parametrize("operation", RESPONSES)
def test_replies_round_trip(operation: str) -> None:
    body = RESPONSES[operation]
    assert messages.decode_reply(operation, messages.encode_reply(body)) == (0, None, body)
    assert messages.decode_reply(operation, encode([1, 250, None])) == (1, 250, None)
    unknown = messages.decode_reply(operation, encode([99, None, {"x": 1}]))
    assert (unknown.status_name, unknown.body) == ("failed", None)
    for bad in [encode([0, None, None]), encode([0, None]), encode([0, None, body]) + b"\x00"]:
        assert reason(messages.decode_reply, operation, bad) == "malformed"


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ("hello", {"tables": [ID] * 257}), ("hello", {"tables": [b"i"]}), ("hello", {"record": 1}),
        ("put", {"entries": []}), ("put", {"entries": [b"e"] * 257}), ("put", {"keys": [SPKI] * 17}),
        ("put", {"entries": None}),
        ("get", {"ids": [ID] * 1025}), ("get", {"tables": [ID] * 65}),
        ("get", {"recipients": [ID] * 129}), ("get", {"cursor": [b"s" * 7, 5]}),
        ("get", {"seconds_since": b""}),
        ("get", {"sids": b"s" * 32776}), ("sync", {"all": [ROOT] * 3}), ("sync", {"all": [b"r"]}),
        ("index", {"table": b"t"}), ("index", {"since": None}), ("index", {"after": b"i"}),
    ],
)  # fmt: skip
def test_lists_and_types_are_bounded(operation: str, change: dict[str, Any]) -> None:
    request = REQUESTS[operation][0] | change
    assert reason(messages.decode_request, operation, encode(request), Network()) == "malformed"


def test_what_a_get_needs() -> None:
    requests: list[dict[str, Any]] = [{}, {"limit": 5}, {"ids": None}, {"new": 1}]
    for request in requests:
        assert reason(messages.decode_request, "get", encode(request), Network()) == "bad_request"
    changes: list[dict[str, Any]] = [
        {"ids": []},
        {"recipients": []},
        {"limit": 0},
        {"limit": 1001},
        {"bucket": 4096},
    ]
    for change in changes:
        request = {"created_from": 0} | change
        assert reason(messages.decode_request, "get", encode(request), Network()) == "bad_request"
    small = Network(bucket_bits=4)
    assert messages.decode_request("get", encode({"bucket": 15}), small)["bucket"] == 15
    assert reason(messages.decode_request, "get", encode({"bucket": 16}), small) == "bad_request"


def test_duplicate_known_keys() -> None:
    twice = b"\xa2" + 2 * (encode("bucket") + encode(1))
    assert reason(messages.decode_request, "get", twice, Network()) == "malformed"
    unknown = b"\xa3" + 2 * (encode("new") + encode(1)) + encode("bucket") + encode(1)
    assert messages.decode_request("get", unknown, Network())["bucket"] == 1


def test_size_limits() -> None:
    padded: dict[str, Any] = {"bucket": 1, "new": bytes(64 * 1024)}
    assert reason(messages.decode_request, "get", encode(padded), Network()) == "too_large"


def test_announces() -> None:
    for decode in (messages.decode_announce, messages.decode_new_tables):
        for count in (1, 64):
            assert decode(encode([ID] * count)) == [ID] * count
        for bad in [encode([]), encode([ID] * 65), encode([b"i"]), encode([ID]) + b"\x00", encode(ID)]:
            assert reason(decode, bad) == "malformed"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 300000])
def test_frames(size: int) -> None:
    data = bytes(size)
    framed = messages.frame(data)
    assert messages.unframe(framed, size) == data
    assert reason(messages.unframe, framed + b"\x00", size) == "malformed"
    if size:
        assert reason(messages.unframe, framed, size - 1) == "too_large"
        assert reason(messages.unframe, framed[:-1], size) == "malformed"


def test_bad_frame_lengths() -> None:
    for data, expected in {b"": "malformed", b"\x80": "malformed", b"\x80" * 4 + b"\x01": "malformed",
                           b"\x81\x00x": "non_canonical"}.items():  # fmt: skip
        assert reason(messages.unframe, data, 100) == expected
