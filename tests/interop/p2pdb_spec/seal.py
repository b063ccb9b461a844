"""Sealing and opening: content, padding, encryption, author (4.4 to 4.9)."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from . import entry, keys
from .cbor_strict import Reader, encode
from .network import Network
from .refusal import Refused

_NONCE = bytes(12)


@dataclass(frozen=True)
class Content:
    media_type: str
    data: bytes
    author: tuple[bytes, bytes] | None = None
    """SPKI and author signature."""

    def encode(self) -> bytes:
        return encode([self.media_type, self.data, self.author])

    @classmethod
    def decode(cls, encoded: bytes) -> "Content":
        reader = Reader(encoded)
        reader.array(3)
        media_type, data = reader.text(1, 255), reader.blob(0, len(encoded))
        author = None
        if not reader.null():
            reader.array(2)
            author = reader.blob(0, keys.MAX_SPKI_BYTES), reader.blob(256, 512)
        reader.finish()
        return cls(media_type, data, author)


def padded_length(length: int) -> int:
    """P(L) of 4.5: Padme, at least 256."""
    if length <= 256:
        return 256
    exponent = length.bit_length() - 1
    low_bits = exponent - exponent.bit_length()  # floor(log2 E) + 1 is the bit length of E
    mask = (1 << low_bits) - 1
    return length + mask & ~mask


def pad(content: bytes) -> bytes:
    return (content + b"\x80").ljust(padded_length(len(content) + 1), b"\x00")


def unpad(plaintext: bytes) -> bytes:
    content = plaintext.rstrip(b"\x00")
    if not content.endswith(b"\x80"):
        raise Refused("padding", "no 0x80 before the zeros")
    return content[:-1]


def author_message(
    table: bytes, created: int, recipients: Sequence[bytes], media_type: str, data: bytes
) -> bytes:
    claim = encode([table, created, recipients, media_type, data])
    return b"p2pdb author v1" + sha256(claim).digest()


def encrypt(content_key: bytes, table: bytes, plaintext: bytes) -> bytes:
    return ChaCha20Poly1305(content_key).encrypt(_NONCE, plaintext, b"p2pdb body v1" + table)


def decrypt(content_key: bytes, table: bytes, body: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(content_key).decrypt(_NONCE, body, b"p2pdb body v1" + table)
    except (InvalidTag, ValueError) as error:
        raise Refused("body", "the tag is wrong") from error


def seal(
    network: Network,
    table_key: keys.PrivateKey,
    recipients: Sequence[keys.PublicKey],
    created: int,
    media_type: str,
    data: bytes,
    *,
    expires: int | None = None,
    author: keys.PrivateKey | None = None,
) -> bytes:
    """A finished entry, signed and worked, encoded."""
    table, content_key = keys.key_id(table_key), secrets.token_bytes(32)
    wrapped = sorted((keys.key_id(key), keys.wrap(key, content_key)) for key in recipients)
    signed = None
    if author is not None:
        message = author_message(table, created, [recipient for recipient, _ in wrapped], media_type, data)
        signed = keys.spki(author), keys.sign(author, message)
    body = encrypt(content_key, table, pad(Content(media_type, data, signed).encode()))
    header = entry.Header(table, created, expires, tuple(wrapped), sha256(body).digest(), len(body))
    encoded = entry.finish(header.encode(), body, table_key, network)
    entry.Entry.decode(encoded, network)  # refuses what its rules do not allow, a recipient given twice say
    return encoded


def open_entry(admitted: entry.Entry, recipient_key: keys.PrivateKey) -> Content:
    """The content of an admitted entry (4.9).

    Refused, in this order, as `not_a_recipient`, `wrapped_key`, `body`, `padding`, `content`, `author_key` or
    `author_signature`.
    """
    header = admitted.header
    wrapped = dict(header.recipients).get(keys.key_id(recipient_key))
    if wrapped is None:
        raise Refused("not_a_recipient")
    try:
        content_key = keys.unwrap(recipient_key, wrapped)
    except ValueError as error:
        raise Refused("wrapped_key", str(error)) from error
    if len(content_key) != 32:
        raise Refused("wrapped_key", f"expected a content key of 32 bytes, got {len(content_key)}")
    plaintext = unpad(decrypt(content_key, header.table, admitted.body))
    try:
        content = Content.decode(plaintext)
    except Refused as error:
        raise Refused("content", str(error)) from error
    if content.author is not None:
        _check_author(header, content, *content.author)
    return content


def _check_author(header: entry.Header, content: Content, spki: bytes, signature: bytes) -> None:
    try:
        key = keys.public_key(spki)
    except Refused as error:
        raise Refused("author_key", str(error)) from error
    recipients = [recipient for recipient, _ in header.recipients]
    message = author_message(header.table, header.created, recipients, content.media_type, content.data)
    if not keys.verify(key, signature, message):
        raise Refused("author_signature", "the author signature is wrong")
