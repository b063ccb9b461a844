"""Entries: their encoding (4.1 to 4.3) and admission as far as it needs no node (6.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5, sha256

from . import keys, work
from .cbor_strict import Reader, encode
from .network import Network
from .refusal import Refused

SpkiOf = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Header:
    table: bytes
    created: int
    expires: int | None
    recipients: tuple[tuple[bytes, bytes], ...]
    """RecipientId and wrapped content key, ascending."""
    body_hash: bytes
    body_length: int

    def encode(self) -> bytes:
        return encode(
            [1, self.table, self.created, self.expires, self.recipients, self.body_hash, self.body_length]
        )

    @classmethod
    def decode(cls, encoded: bytes) -> "Header":
        reader = Reader(encoded)
        # The version decides before the number of elements does: another version may have more of them.
        elements = reader.array(1, 2**64 - 1)
        if (version := reader.uint()) != 1:
            raise Refused("unknown_version", f"expected 1, got {version}")
        if elements != 7:
            raise Refused("malformed", f"expected a header of 7 elements, got {elements}")
        table, created = reader.blob(32), reader.uint()
        expires = None if reader.null() else reader.uint()
        if expires is not None and expires <= created:
            raise Refused("bad_expiry", f"expires {expires}, created {created}")
        recipients: list[tuple[bytes, bytes]] = []
        for _ in range(reader.array(1, 16, reason="bad_recipients")):
            reader.array(2)
            recipient = reader.blob(32), reader.blob(256, 512, reason="bad_recipients")
            if recipients and recipient[0] <= recipients[-1][0]:
                raise Refused("bad_recipients", "not strictly ascending")
            recipients.append(recipient)
        body_hash, body_length = reader.blob(32), reader.uint()
        reader.finish()
        return cls(table, created, expires, tuple(recipients), body_hash, body_length)


@dataclass(frozen=True)
class Entry:
    """A decoded entry: steps 1 and 2 of 6.1 have passed, nothing more."""

    header: Header
    header_bytes: bytes
    body: bytes
    signature: bytes
    work: bytes

    @property
    def id(self) -> bytes:
        return entry_id(self.header_bytes, self.body)

    @property
    def priced_size(self) -> int:
        return len(self.header_bytes) + len(self.body)

    def encode(self) -> bytes:
        return encode([self.header_bytes, self.body, self.signature, self.work])

    @classmethod
    def decode(cls, encoded: bytes, network: Network) -> "Entry":
        limit = network.max_entry_bytes
        if len(encoded) > limit:
            raise Refused("too_large", f"expected at most {limit} bytes, got {len(encoded)}")
        reader = Reader(encoded)
        reader.array(4)
        header_bytes, body = reader.blob(0, limit), reader.blob(0, limit)
        signature, proof = reader.blob(256, 512), reader.blob(0, limit)
        reader.finish()
        header = Header.decode(header_bytes)
        if header.body_length != len(body) or header.body_hash != sha256(body).digest():
            raise Refused("body_mismatch")
        return cls(header, header_bytes, body, signature, proof)

    def check_clock(self, network: Network, now: int, horizon: int = 0) -> None:
        """Step 3; `horizon` is the least `created` that the node still takes."""
        if self.header.created > now + network.max_clock_ahead:
            raise Refused("created_in_future", f"created {self.header.created}, now {now}")
        if self.header.expires is not None and self.header.expires <= now:
            raise Refused("expired", f"expires {self.header.expires}, now {now}")
        if self.header.created < horizon:
            raise Refused("beyond_horizon", f"created {self.header.created}, horizon {horizon}")

    def check_work(self, network: Network) -> int:
        """Step 5; returns the effort."""
        return work.check(network, self.id, self.priced_size, self.work)

    def check_table(self, spki_of: SpkiOf) -> keys.PublicKey:
        """Step 6 for a node that mirrors every table; `spki_of` finds the key it has for a TableId."""
        spki = spki_of(self.header.table)
        if spki is None:
            raise Refused("table_key_missing")
        if keys.spki_id(spki) != self.header.table:
            raise Refused("table_key_invalid", "another table's key")
        return keys.public_key(spki)

    def check_signature(self, table_key: keys.PublicKey) -> None:
        """Step 7."""
        if not keys.verify(table_key, self.signature, b"p2pdb signature v1" + self.id):
            raise Refused("signature_invalid")


def entry_id(header_bytes: bytes, body: bytes) -> bytes:
    return md5(body).digest()[:2] + sha256(b"p2pdb entry v1" + header_bytes).digest()[:30]


def admit(
    encoded: bytes,
    network: Network,
    spki_of: SpkiOf,
    *,
    now: int | None = None,
    horizon: int = 0,
) -> tuple[Entry, int]:
    """Steps 1, 2, 3 (with `now`), 5, 6 and 7 in this order; the entry and its effort."""
    entry = Entry.decode(encoded, network)
    if now is not None:
        entry.check_clock(network, now, horizon)
    effort = entry.check_work(network)
    entry.check_signature(entry.check_table(spki_of))
    return entry, effort


def finish(header_bytes: bytes, body: bytes, table_key: keys.PrivateKey, network: Network) -> bytes:
    """Signs and works: the encoded entry. Takes any header, so that tests can make bad ones."""
    identifier = entry_id(header_bytes, body)
    signature = keys.sign(table_key, b"p2pdb signature v1" + identifier)
    proof = work.solve(network, identifier, len(header_bytes) + len(body))
    return encode([header_bytes, body, signature, proof])
