"""Admission: one test for each reason of 6.1 that an entry alone can give, and their order."""

from dataclasses import replace
from hashlib import sha256

import pytest
from conftest import NOW, generate, reason

from p2pdb_spec import entry, keys, work
from p2pdb_spec.cbor_strict import Value, encode
from p2pdb_spec.entry import Entry
from p2pdb_spec.network import Network

Fields = list[Value]
WRAPPED = b"w" * 256


def header_fields(sealed: bytes, network: Network) -> Fields:
    header = Entry.decode(sealed, network).header
    recipients: Value = [list(recipient) for recipient in header.recipients]
    return [1, header.table, header.created, header.expires, recipients, header.body_hash, header.body_length]


def test_an_honest_entry(sealed: bytes, network: Network, spkis: dict[bytes, bytes]) -> None:
    admitted, effort = entry.admit(sealed, network, spkis.get, now=NOW)
    assert admitted.encode() == sealed
    assert admitted.header.encode() == admitted.header_bytes
    assert effort >= work.price(network, admitted.priced_size)


@pytest.mark.parametrize(
    ("position", "value", "expected"),
    [
        (0, 0, "unknown_version"),
        (0, 2, "unknown_version"),
        (0, None, "malformed"),
        (1, b"t" * 31, "malformed"),
        (2, None, "malformed"),
        (3, NOW, "bad_expiry"),
        (3, NOW - 1, "bad_expiry"),
        (4, [], "bad_recipients"),
        (4, [[bytes([i]) * 32, WRAPPED] for i in range(17)], "bad_recipients"),
        (4, [[b"b" * 32, WRAPPED], [b"a" * 32, WRAPPED]], "bad_recipients"),
        (4, [[b"a" * 32, WRAPPED], [b"a" * 32, WRAPPED]], "bad_recipients"),
        (4, [[b"a" * 32, b"w" * 255]], "bad_recipients"),
        (4, [[b"a" * 32, b"w" * 513]], "bad_recipients"),
        (4, [[b"a" * 31, WRAPPED]], "malformed"),
        (4, [[b"a" * 32, WRAPPED, 0]], "malformed"),
        (5, bytes(32), "body_mismatch"),
        (6, 0, "body_mismatch"),
        (6, 2**64 - 1, "body_mismatch"),
    ],
)
def test_bad_headers(sealed: bytes, network: Network, position: int, value: Value, expected: str) -> None:
    fields = header_fields(sealed, network)
    fields[position] = value
    spoiled = replace(Entry.decode(sealed, network), header_bytes=encode(fields)).encode()
    assert reason(Entry.decode, spoiled, network) == expected


def test_a_later_version_may_have_any_shape(sealed: bytes, network: Network) -> None:
    honest = Entry.decode(sealed, network)
    for header_bytes in [encode([2]), encode([9, *range(20)]), encode([2, 0]) + b"more"]:
        spoiled = replace(honest, header_bytes=header_bytes).encode()
        assert reason(Entry.decode, spoiled, network) == "unknown_version"


def test_bad_encodings(sealed: bytes, network: Network) -> None:
    honest = Entry.decode(sealed, network)
    # A header of one byte more: its array of 7 in the long form.
    long_head = replace(honest, header_bytes=b"\x98\x07" + honest.header_bytes[1:]).encode()
    cases = {
        sealed + b"\x00": "malformed",
        sealed[:-1]: "malformed",
        b"": "malformed",
        b"\x83" + sealed[1:]: "malformed",
        b"\x98\x04" + sealed[1:]: "non_canonical",
        b"\x9f" + sealed[1:] + b"\xff": "non_canonical",
        long_head: "non_canonical",
        replace(honest, header_bytes=honest.header_bytes + b"\x00").encode(): "malformed",
        replace(honest, header_bytes=b"").encode(): "malformed",
        replace(honest, signature=b"s" * 255).encode(): "malformed",
        replace(honest, signature=b"s" * 513).encode(): "malformed",
        replace(honest, body=honest.body[:-1] + b"x").encode(): "body_mismatch",
        replace(honest, body=b"").encode(): "body_mismatch",
    }
    assert {data: reason(Entry.decode, data, network) for data in cases} == cases


def test_size_is_checked_at_its_limit(sealed: bytes, network: Network) -> None:
    honest = Entry.decode(sealed, network)
    room = network.max_entry_bytes - len(sealed)
    # A work of more than 255 bytes has a head of 3 bytes and not 2.
    largest = replace(honest, work=honest.work + bytes(room - 1))
    assert len(largest.encode()) == network.max_entry_bytes
    assert Entry.decode(largest.encode(), network) == largest
    too_large = replace(largest, work=largest.work + b"\x00").encode()
    assert reason(Entry.decode, too_large, network) == "too_large"


def test_clock(sealed: bytes, network: Network) -> None:
    honest = Entry.decode(sealed, network)
    ahead = network.max_clock_ahead
    honest.check_clock(network, NOW - ahead)
    honest.check_clock(network, NOW + 59, horizon=NOW)
    assert reason(honest.check_clock, network, NOW - ahead - 1) == "created_in_future"
    assert reason(honest.check_clock, network, NOW + 60) == "expired"
    assert reason(honest.check_clock, network, NOW, horizon=NOW + 1) == "beyond_horizon"


def test_work(sealed: bytes, network: Network, spkis: dict[bytes, bytes]) -> None:
    honest = Entry.decode(sealed, network)
    for spoiled in [b"", honest.work[:-1], honest.work + b"\x00", honest.work * 2]:
        data = replace(honest, work=spoiled).encode()
        assert reason(entry.admit, data, network, spkis.get) == "work_malformed"
    goal = work.target(network, honest.priced_size)
    start = work.seed(honest.id)
    last = network.work_puzzles - 1
    bad_nonce = next(n for n in map(work._nonce, range(1000)) if work._value(start, last, n) > goal)
    data = replace(honest, work=honest.work[:-8] + bad_nonce).encode()
    assert reason(entry.admit, data, network, spkis.get) == "work_insufficient"


def test_table_key(sealed: bytes, network: Network, table_key: keys.PrivateKey) -> None:
    table = keys.key_id(table_key)
    assert reason(entry.admit, sealed, network, {}.get) == "table_key_missing"
    other = keys.spki(generate())
    assert reason(entry.admit, sealed, network, {table: other}.get) == "table_key_invalid"


@pytest.mark.parametrize(
    ("bits", "exponent"), [(1024, 65537), (2047, 65537), (2052, 65537), (2048, 3), (4104, 65537)]
)
def test_keys_that_are_not_allowed(bits: int, exponent: int) -> None:
    der = keys.spki(generate(bits, exponent))
    assert reason(keys.public_key, der) == "table_key_invalid"


def test_a_key_has_one_encoding(table_key: keys.PrivateKey) -> None:
    der = keys.spki(table_key)
    assert keys.spki(keys.public_key(der)) == der
    null = bytes.fromhex("0500")
    without_null = bytes.fromhex("30820120") + der[4:].replace(b"\x30\x0d", b"\x30\x0b", 1).replace(
        null, b"", 1
    )
    for other in [der + b"\x00", der[:-1], b"", without_null]:
        assert reason(keys.public_key, other) == "table_key_invalid"


def test_signature(
    sealed: bytes, network: Network, spkis: dict[bytes, bytes], author_key: keys.PrivateKey
) -> None:
    honest = Entry.decode(sealed, network)
    message = b"p2pdb signature v1" + honest.id
    for spoiled in [honest.signature[:-1] + bytes([honest.signature[-1] ^ 1]), honest.signature + b"\x00",
                    keys.sign(author_key, message)]:  # fmt: skip
        data = replace(honest, signature=spoiled).encode()
        assert reason(entry.admit, data, network, spkis.get) == "signature_invalid"


def test_the_id_covers_neither_signature_nor_work(sealed: bytes, network: Network) -> None:
    honest = Entry.decode(sealed, network)
    assert replace(honest, signature=b"s" * 256, work=b"").id == honest.id
    assert replace(honest, body=honest.body + b"x").id != honest.id
    assert honest.header.body_hash == sha256(honest.body).digest()


def test_work_is_looked_at_before_the_signature(sealed: bytes, network: Network) -> None:
    spoiled = replace(Entry.decode(sealed, network), work=b"", signature=b"s" * 256).encode()
    assert reason(entry.admit, spoiled, network, {}.get) == "work_malformed"
    assert reason(entry.admit, spoiled, network, {}.get, now=0) == "created_in_future"
