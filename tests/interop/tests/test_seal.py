import secrets
from dataclasses import replace
from hashlib import sha256

import pytest
from conftest import NOW, reason

from p2pdb_spec import entry, keys, seal
from p2pdb_spec.cbor_strict import encode
from p2pdb_spec.entry import Entry, Header
from p2pdb_spec.network import Network
from p2pdb_spec.seal import Content


def test_every_recipient_opens(
    sealed: bytes, network: Network, reader_key: keys.PrivateKey, author_key: keys.PrivateKey
) -> None:
    admitted = Entry.decode(sealed, network)
    for key in (reader_key, author_key):
        content = seal.open_entry(admitted, key)
        assert (content.media_type, content.data) == ("text/plain", b"hello")
        assert content.author is not None and content.author[0] == keys.spki(author_key)


def test_nobody_else_opens(sealed: bytes, network: Network, table_key: keys.PrivateKey) -> None:
    assert reason(seal.open_entry, Entry.decode(sealed, network), table_key) == "not_a_recipient"


def test_padding_is_padme() -> None:
    # L and P(L), by hand from 4.5.
    known = {1: 256, 256: 256, 257: 272, 272: 272, 273: 288, 1000: 1024, 1025: 1088, 100_000: 100_352}
    assert {length: seal.padded_length(length) for length in known} == known
    lengths = [*range(1, 3000), *(2**i + d for i in range(12, 20) for d in (-1, 0, 1))]
    padded = [seal.padded_length(length) for length in lengths]
    assert padded == sorted(padded)
    for length, result in zip(lengths, padded, strict=True):
        assert result >= length
        assert result <= max(256, length * 1.12)
        assert seal.padded_length(result) == result


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 263, 264, 5000])
def test_pad_and_unpad(size: int) -> None:
    for filler in (b"\x00", b"\x80", b"x"):
        content = filler * size
        assert len(seal.pad(content)) == seal.padded_length(size + 1)
        assert seal.unpad(seal.pad(content)) == content


@pytest.mark.parametrize("plaintext", [b"", bytes(256), b"x" * 256, b"x\x80y" + bytes(253)])
def test_bad_padding(plaintext: bytes) -> None:
    assert reason(seal.unpad, plaintext) == "padding"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode(["", b"", None]), "malformed"),
        (encode(["x" * 256, b"", None]), "malformed"),
        (encode(["text/plain", b""]), "malformed"),
        (encode(["text/plain", b"", [b"", b""]]), "malformed"),
        (encode(["text/plain", b"", None]) + b"x", "malformed"),
        (b"\x98\x03" + encode(["text/plain", b"", None])[1:], "non_canonical"),
    ],
)
def test_bad_contents(content: bytes, expected: str) -> None:
    assert reason(Content.decode, content) == expected


def test_contents_round_trip() -> None:
    for content in [Content("a", b""), Content("é" * 127, b"x" * 300, (b"k" * 294, b"s" * 256))]:
        assert Content.decode(content.encode()) == content


def test_a_recipient_given_twice(network: Network, table_key: keys.PrivateKey) -> None:
    twice = [table_key.public_key()] * 2
    assert reason(seal.seal, network, table_key, twice, NOW, "a", b"") == "bad_recipients"


class Forger:
    """Makes entries that are admitted but must not open."""

    def __init__(self, network: Network, table_key: keys.PrivateKey, reader_key: keys.PrivateKey) -> None:
        self.network, self.table_key, self.reader_key = network, table_key, reader_key
        self.table, self.reader = keys.key_id(table_key), keys.key_id(reader_key)
        self.content_key = secrets.token_bytes(32)

    def open(self, plaintext: bytes, wrapped: bytes | None = None, table: bytes | None = None) -> Content:
        body = seal.encrypt(self.content_key, table or self.table, plaintext)
        wrapped = wrapped or keys.wrap(self.reader_key.public_key(), self.content_key)
        header = Header(self.table, NOW, None, ((self.reader, wrapped),), sha256(body).digest(), len(body))
        encoded = entry.finish(header.encode(), body, self.table_key, self.network)
        admitted, _ = entry.admit(encoded, self.network, {self.table: keys.spki(self.table_key)}.get)
        return seal.open_entry(admitted, self.reader_key)

    def signed(self, author: keys.PrivateKey, **claim: object) -> bytes:
        facts = {
            "table": self.table,
            "created": NOW,
            "recipients": [self.reader],
            "media_type": "a",
            "data": b"d",
        }
        signature = keys.sign(author, seal.author_message(**facts | claim))  # type: ignore[arg-type]
        return seal.pad(Content("a", b"d", (keys.spki(author), signature)).encode())


@pytest.fixture
def forger(network: Network, table_key: keys.PrivateKey, reader_key: keys.PrivateKey) -> Forger:
    return Forger(network, table_key, reader_key)


def test_a_forger_who_is_honest(forger: Forger, author_key: keys.PrivateKey) -> None:
    assert forger.open(forger.signed(author_key)).data == b"d"
    # A reader strips zeros; it does not ask for the length of 4.5.
    assert forger.open(Content("a", b"d").encode() + b"\x80").data == b"d"


def test_entries_that_do_not_open(
    forger: Forger, author_key: keys.PrivateKey, table_key: keys.PrivateKey
) -> None:
    good = seal.pad(Content("a", b"d").encode())
    reader = forger.reader_key.public_key()
    for wrapped in [b"w" * 384, b"w" * 256, keys.wrap(table_key.public_key(), forger.content_key),
                    keys.wrap(reader, forger.content_key[:31])]:  # fmt: skip
        assert reason(forger.open, good, wrapped) == "wrapped_key"
    assert reason(forger.open, good, keys.wrap(reader, bytes(32))) == "body"
    assert reason(forger.open, good, table=bytes(32)) == "body"
    assert reason(forger.open, bytes(256)) == "padding"
    assert reason(forger.open, seal.pad(b"\x83")) == "content"


@pytest.mark.parametrize(
    "claim",
    [
        {"table": bytes(32)},
        {"created": NOW + 1},
        {"recipients": [bytes(32)]},
        {"media_type": "b"},
        {"data": b"e"},
    ],
    ids=lambda claim: next(iter(claim)),
)
def test_the_author_signs_all_of_it(
    forger: Forger, author_key: keys.PrivateKey, claim: dict[str, object]
) -> None:
    assert reason(forger.open, forger.signed(author_key, **claim)) == "author_signature"


def test_another_authors_key(forger: Forger, author_key: keys.PrivateKey, table_key: keys.PrivateKey) -> None:
    content = Content.decode(seal.unpad(forger.signed(author_key)))
    assert content.author is not None
    for spki, expected in [(keys.spki(table_key), "author_signature"), (b"k" * 294, "author_key")]:
        forged = replace(content, author=(spki, content.author[1]))
        assert reason(forger.open, seal.pad(forged.encode())) == expected
