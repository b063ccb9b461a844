"""Reads export files (SPEC 12.2) and computes the ids of their entries (SPEC 4.3), without any code of p2pdb."""

import hashlib
from pathlib import Path

BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class Cursor:
    """Reads the few types of CBOR that an export has."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def head(self) -> tuple[int, int]:
        first = self.data[self.at]
        major, small = first >> 5, first & 31
        self.at += 1
        if small < 24:
            return major, small
        length = {24: 1, 25: 2, 26: 4, 27: 8}[small]
        self.at += length
        return major, int.from_bytes(self.data[self.at - length : self.at], "big")

    def expect(self, major: int) -> int:
        found, value = self.head()
        assert found == major, f"CBOR type {found} at {self.at}, expected {major}"
        return value

    def bytes(self) -> bytes:
        length = self.expect(2)
        self.at += length
        assert self.at <= len(self.data), "truncated"
        return self.data[self.at - length : self.at]


def entry_id(encoded: bytes) -> bytes:
    cursor = Cursor(encoded)
    assert cursor.expect(4) == 4
    header, body = cursor.bytes(), cursor.bytes()
    return hashlib.md5(body).digest()[:2] + hashlib.sha256(b"p2pdb entry v1" + header).digest()[:30]


def ids(path: Path) -> set[bytes]:
    """The ids of all entries of a whole export file."""
    cursor = Cursor(path.read_bytes())
    magic = b"p2pdb export v1\n"
    assert cursor.data.startswith(magic), "not an export file"
    cursor.at = len(magic)
    found = []
    while True:
        assert cursor.expect(4) == 2
        kind = cursor.expect(0)
        if kind == 2:
            assert cursor.expect(0) == len(found) and cursor.at == len(cursor.data), "wrong count"
            assert len(set(found)) == len(found), "an entry stands there twice"
            return set(found)
        item = cursor.bytes()
        if kind == 1:
            found.append(entry_id(item))


def parse_id(text: str) -> bytes:
    """The bytes of an id as people write it (SPEC 3.3); its checksum is not checked."""
    prefix, _, data = text.rpartition("1")
    assert prefix == "p2entry", text
    number = 0
    for character in data[:-6]:
        number = number << 5 | BECH32.index(character)
    bits = 5 * len(data[:-6])
    return (number >> (bits - 256)).to_bytes(32, "big")


def acknowledged(path: Path) -> set[bytes]:
    """The ids that a putting client noted; it may be writing the last line."""
    text = path.read_text() if path.exists() else ""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {parse_id(line.strip()) for line in lines}
