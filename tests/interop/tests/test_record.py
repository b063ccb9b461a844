from dataclasses import replace
from hashlib import sha512
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pdb_spec import record
from p2pdb_spec.cbor_strict import encode
from p2pdb_spec.record import NodeRecord
from p2pdb_spec.refusal import Refused

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NETWORK_ID = b"n" * 32
HONEST = NodeRecord(KEY.public_key().public_bytes_raw(), 7, (b"a", b"b" * 256), (bytes(32), b"t" * 32), 0, 60)


@pytest.mark.parametrize("tables", [None, (), HONEST.tables])
def test_round_trip(tables: tuple[bytes, ...] | None) -> None:
    honest = replace(HONEST, tables=tables)
    encoded = record.sign(honest, KEY, NETWORK_ID)
    assert record.verify(encoded, NETWORK_ID) == honest
    assert encoded == record.sign(honest, KEY, NETWORK_ID)
    assert honest.peer_id.hex().startswith("002408011220") and len(honest.peer_id) == 38


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"k" * 31}, {"key": b"\xff" * 32}, {"addresses": (b"",)}, {"addresses": (b"a" * 257,)},
        {"addresses": (b"a",) * 9}, {"tables": (b"t" * 32, bytes(32))}, {"tables": (bytes(32),) * 2},
        {"tables": (b"t",)}, {"tables": tuple(i.to_bytes(32, "big") for i in range(257))},
    ],
)  # fmt: skip
def test_bad_records(change: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        record.verify(record.sign(replace(HONEST, **change), KEY, NETWORK_ID), NETWORK_ID)


def test_the_points_of_small_order() -> None:
    # The curve is -x^2 + y^2 = 1 + d x^2 y^2. Orders 1, 2 and 4 have y = 1, -1 and 0. Twice a point of
    # order 8 has y = 0, for which x^2 = -y^2.
    p = record._P
    d = -121665 * pow(121666, -1, p) % p
    y = record._Y8
    assert (2 * y**2 - 1 + d * y**4) % p == 0
    for encoded in [1, p - 1, 0, y, p - y, p, p + 1]:
        for sign in (0, 1 << 255):
            assert record._of_small_order((encoded | sign).to_bytes(32, "little"))
    assert not record._of_small_order(HONEST.key)


def test_a_key_of_small_order_signs_nothing() -> None:
    # Under the neutral element R = S * B is a signature of everything; a key pair is such an R and S.
    scalar = bytearray(sha512(KEY.private_bytes_raw()).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    s = int.from_bytes(scalar, "little") % (2**252 + 27742317777372353535851937790883648493)
    signature = KEY.public_key().public_bytes_raw() + s.to_bytes(32, "little")
    neutral = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(neutral).verify(signature, b"anything")
    with pytest.raises(Refused, match="small order"):
        record.verify(encode([replace(HONEST, key=neutral).payload(), signature]), NETWORK_ID)


def test_bad_signatures_and_sizes() -> None:
    honest = record.sign(HONEST, KEY, NETWORK_ID)
    other_version = encode([2, 0])
    signed = KEY.sign(record._message(NETWORK_ID, other_version))
    cases = {
        honest[:-1] + bytes([honest[-1] ^ 1]): "signature_invalid",
        honest + b"\x00": "malformed",
        encode([HONEST.payload(), b"s" * 63]): "malformed",
        encode([other_version, signed]): "unknown_version",
        honest + bytes(record.MAX_BYTES): "too_large",
    }
    for data, expected in cases.items():
        with pytest.raises(Refused) as refusal:
            record.verify(data, NETWORK_ID)
        assert refusal.value.name == expected
    with pytest.raises(Refused, match="signature_invalid"):
        record.verify(honest, b"m" * 32)
