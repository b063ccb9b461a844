"""Login by recipient key, the app's side: challenges that only the holder of a key can answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

#: For so many seconds a challenge can be answered.
MAX_AGE = 120
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass
class Challenge:
    """A challenge for one key and origin, good for one answer. Keep it in the user's session."""

    #: What the user's daemon is given.
    text: str
    #: Id of the key, ``p2key1...``: the user's name once it is answered.
    key_id: str
    #: When it was made, in unix seconds.
    issued: int
    expected: str

    @classmethod
    def make(cls, public_key_pem: str, origin: str) -> Challenge:
        """A challenge for whoever has the private half of this key, at this origin."""
        der = _from_pem(public_key_pem)
        modulus, exponent = _rsa_key(der)
        issued = int(time.time())
        plain = issued.to_bytes(8, "big") + secrets.token_bytes(32)
        sealed = _oaep(plain, b"p2pdb-login-v1|" + origin.encode(), modulus, exponent)
        answer = hashlib.sha256(b"p2pdb login answer v1" + plain).digest()
        return cls(
            text=base64.b64encode(sealed).decode(),
            key_id=_bech32m("p2key", hashlib.sha256(der).digest()),
            issued=issued,
            expected=base64.b64encode(answer).decode(),
        )

    def is_answered_by(self, answer: str) -> bool:
        """Whether this is the answer, in time. A challenge that was looked at is used up, right or wrong."""
        expected, self.expected = self.expected, ""
        in_time = abs(time.time() - self.issued) <= MAX_AGE
        return bool(expected) and in_time and hmac.compare_digest(expected.encode(), answer.encode())


def _from_pem(pem: str) -> bytes:
    lines = pem.strip().splitlines()
    if lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        raise ValueError("expected a public key as PEM, which begins with -----BEGIN PUBLIC KEY-----")
    return base64.b64decode("".join(lines[1:-1]), validate=True)


def _read(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the DER element that data begins with, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("expected an RSA public key")
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("expected an RSA public key, got a part of one")
    return data[start : start + length], data[start + length :]


def _rsa_key(der: bytes) -> tuple[int, int]:
    spki, rest = _read(der, 0x30)
    algorithm, spki = _read(spki, 0x30)
    oid, _ = _read(algorithm, 0x06)
    bits, end = _read(spki, 0x03)
    if oid != bytes.fromhex("2a864886f70d010101") or rest or end or bits[:1] != b"\0":
        raise ValueError("expected an RSA public key")
    key, _ = _read(bits[1:], 0x30)
    modulus, key = _read(key, 0x02)
    exponent, _ = _read(key, 0x02)
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if not 2048 <= n.bit_length() <= 4096 or e != 65537:
        raise ValueError("expected an RSA key of 2048 to 4096 bits with the exponent 65537")
    return n, e


def _mask(seed: bytes, length: int) -> bytes:
    blocks = (
        hashlib.sha256(seed + counter.to_bytes(4, "big")).digest() for counter in range(length // 32 + 1)
    )
    return b"".join(blocks)[:length]


def _oaep(plain: bytes, label: bytes, modulus: int, exponent: int) -> bytes:
    """RSA-OAEP with SHA-256 (RFC 8017, 7.1.1)."""
    size = (modulus.bit_length() + 7) // 8
    block = hashlib.sha256(label).digest() + b"\0" * (size - len(plain) - 66) + b"\1" + plain
    seed = secrets.token_bytes(32)
    masked = bytes(a ^ b for a, b in zip(block, _mask(seed, len(block))))
    masked_seed = bytes(a ^ b for a, b in zip(seed, _mask(masked, 32)))
    number = int.from_bytes(b"\0" + masked_seed + masked, "big")
    return pow(number, exponent, modulus).to_bytes(size, "big")


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _bech32m(prefix: str, data: bytes) -> str:
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 5)
    count = -(-len(data) * 8 // 5)
    values = [bits >> (5 * (count - 1 - at)) & 31 for at in range(count)]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    checksum = _polymod(expanded + values + [0] * 6) ^ 0x2BC830A3
    values += [checksum >> (5 * (5 - at)) & 31 for at in range(6)]
    return prefix + "1" + "".join(_BECH32[value] for value in values)
