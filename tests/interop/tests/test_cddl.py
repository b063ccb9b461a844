"""protocol/p2pdb.cddl against what this package writes, by an independent validator."""

from dataclasses import replace
from typing import Any

import pytest
import zcbor  # type: ignore[import-untyped]
from conftest import INTEROP
from test_entry import header_fields
from test_messages import ID, REQUESTS, RESPONSES
from test_record import HONEST, KEY, NETWORK_ID

from p2pdb_spec import messages
from p2pdb_spec.cbor_strict import Value, encode
from p2pdb_spec.entry import Entry
from p2pdb_spec.network import Network
from p2pdb_spec.seal import Content
from vectors import Vector

GRAMMAR = (INTEROP.parent.parent / "protocol" / "p2pdb.cddl").read_text()
VECTORS = INTEROP.parent.parent / "protocol" / "vectors"
UNKNOWN_KEYS = "    * tstr => any\n"


def load(grammar: str) -> dict[str, Any]:
    types: dict[str, Any] = zcbor.DataTranslator.from_cddl(
        cddl_string=grammar, default_max_qty=2**20
    ).my_types
    return types


OPEN = load(GRAMMAR)
# The validator takes a known key with a wrong value for an unknown one; without those it cannot.
CLOSED = load(GRAMMAR.replace(",\n" + UNKNOWN_KEYS, "\n"))


def valid(rule: str, data: bytes, types: dict[str, Any] = OPEN) -> bool:
    try:
        types[rule].validate_str(data)
    except Exception:  # of the validator's own kinds, and of cbor2's
        return False
    return True


def test_no_map_is_closed() -> None:
    assert GRAMMAR.count("= {") == GRAMMAR.count(UNKNOWN_KEYS) == 10


def test_strict_objects(sealed: bytes, network: Network) -> None:
    from p2pdb_spec import record, seal

    entry = Entry.decode(sealed, network)
    claim: Value = [ID, 1, [ID], "text/plain", b"x"]
    good: dict[str, list[bytes]] = {
        "network": [Network().encode(), network.encode()],
        "entry": [sealed],
        "header": [entry.header_bytes, replace(entry.header, expires=None).encode()],
        "content": [Content("a", b"").encode(), Content("a", b"x", (b"k" * 294, b"s" * 256)).encode()],
        "author-claim": [encode(claim)],
        "node-record": [
            record.sign(replace(HONEST, tables=tables), KEY, NETWORK_ID) for tables in (None, (), (ID,))
        ],
        "node-record-payload": [HONEST.payload()],
        "export-item": [encode([0, b"k" * 294]), encode([1, sealed]), encode([2, 1])],
    }
    for rule, objects in good.items():
        for data in objects:
            assert valid(rule, data), rule
            assert not valid(rule, encode([])), rule
    assert seal.author_message(ID, 1, [ID], "text/plain", b"x").startswith(b"p2pdb author v1")


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 2), (1, b"t"), (2, None), (3, b""), (4, []), (4, [[ID, b"w" * 256]] * 17),
        (4, [[ID, b"w" * 255]]), (4, [[ID]]), (5, b"h"), (6, None),
    ],
)  # fmt: skip
def test_bad_headers(sealed: bytes, network: Network, position: int, value: Value) -> None:
    fields = header_fields(sealed, network)
    assert valid("header", encode(fields))
    fields[position] = value
    assert not valid("header", encode(fields))
    spoiled = replace(Entry.decode(sealed, network), header_bytes=encode(fields)).encode()
    assert not valid("entry", spoiled)


def test_bad_strict_objects(sealed: bytes, network: Network) -> None:
    entry = Entry.decode(sealed, network)
    parameters: list[Value] = ["p2pdb network v1", "a", 0, 1, 1, 1, 4096, 1, 60]
    assert valid("network", encode(parameters))
    bad: list[Value] = ["p2pdb network v2", "", 13, 0, 0, 257, 1, 0, 59]
    for position, value in enumerate(bad):
        spoiled = [*parameters[:position], value, *parameters[position + 1 :]]
        assert not valid("network", encode(spoiled))
    for rule, data in [
        ("entry", replace(entry, signature=b"s" * 255).encode()),
        ("content", Content("", b"").encode()),
        ("content", Content("a", b"", (b"k" * 294, b"s")).encode()),
        ("node-record", encode([HONEST.payload(), b"s" * 63])),
        ("node-record-payload", replace(HONEST, addresses=(b"a",) * 9).payload()),
        ("node-record-payload", replace(HONEST, addresses=(b"",)).payload()),
        ("export-item", encode([3, 1])),
        ("announce", encode([])),
        ("announce", encode([ID] * 65)),
        ("new-tables", encode([])),
        ("new-tables", encode([ID] * 65)),
    ]:
        assert not valid(rule, data), rule


def test_lenient_objects() -> None:
    for operation, requests in REQUESTS.items():
        for request in requests:
            for form in (request, request | {"new": [1, {"a": 2}]}):
                assert valid(f"{operation}-request", encode(form)), (operation, form)
            assert valid(f"{operation}-request", encode(request), CLOSED), (operation, request)
    for operation, response in RESPONSES.items():
        assert valid(f"{operation}-response", encode(response), CLOSED), operation
        assert valid("reply", messages.encode_reply(response), CLOSED), operation
    assert valid("reply", encode([1, 250, None]))
    assert valid("announce", encode([ID] * 64))
    assert valid("new-tables", encode([ID] * 64))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("hello-request", {"tables": [ID] * 257}), ("hello-request", {"record": 1}),
        ("put-request", {"entries": [], "keys": []}), ("put-request", {"entries": [b"e"]}),
        ("get-request", {"ids": []}), ("get-request", {"ids": [b"i"]}), ("get-request", {"limit": 1001}),
        ("get-request", {"bucket": 4096}), ("get-request", {"cursor": [b"s", 1]}),
        ("get-request", {"new": 1}), ("index-request", {"table": ID}),
        ("index-request", {"table": ID, "since": 0, "limit": 2049}),
        ("put-response", {"outcomes": [None]}), ("hello-response", {"record": b"r"}),
        ("get-response", RESPONSES["get"] | {"more": 1}),
        ("index-response", RESPONSES["index"] | {"ids": [b""]}),
    ],
)  # fmt: skip
def test_bad_lenient_objects(rule: str, value: dict[str, Any]) -> None:
    assert not valid(rule, encode(value), CLOSED)


RULES = {"header": "header", "entry": "entry", "seal": "entry", "record": "node-record", "messages": None}


@pytest.mark.parametrize("area", RULES)
def test_good_vectors(area: str) -> None:
    paths = sorted((VECTORS / area).glob("ok*.txt"))
    assert paths
    for path in paths:
        vector = Vector.read(path, VECTORS)
        message = vector.header.get("message", "")
        rule = RULES[area] or ("reply" if message.endswith("-response") else message)
        assert valid(rule, vector.body), path.name
