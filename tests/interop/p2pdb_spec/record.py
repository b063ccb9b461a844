"""Node records (7)."""

from dataclasses import dataclass
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .cbor_strict import Reader, encode
from .refusal import Refused

MAX_BYTES = 12288
_P = 2**255 - 19
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # of two of the points of order 8
_SMALL_ORDER_Y = (0, 1, _P - 1, _Y8, _P - _Y8)


@dataclass(frozen=True)
class NodeRecord:
    key: bytes
    sequence: int
    addresses: tuple[bytes, ...]
    tables: tuple[bytes, ...] | None
    horizon: int
    puts_per_minute: int

    @property
    def peer_id(self) -> bytes:
        """The identity multihash of the key."""
        return bytes.fromhex("002408011220") + self.key

    def payload(self) -> bytes:
        return encode(
            [1, self.key, self.sequence, self.addresses, self.tables, self.horizon, self.puts_per_minute]
        )

    @classmethod
    def decode(cls, payload: bytes) -> "NodeRecord":
        reader = Reader(payload)
        elements = reader.array(1, 2**64 - 1)
        if (version := reader.uint()) != 1:
            raise Refused("unknown_version", f"expected 1, got {version}")
        if elements != 7:
            raise Refused("malformed", f"expected a node record of 7 elements, got {elements}")
        key, sequence = reader.blob(32), reader.uint()
        addresses = tuple(reader.blob(1, 256) for _ in range(reader.array(0, 8)))
        tables = None
        if not reader.null():
            tables = tuple(reader.blob(32) for _ in range(reader.array(0, 256)))
            if any(a >= b for a, b in pairwise(tables)):
                raise Refused("malformed", "tables are not strictly ascending")
        record = cls(key, sequence, addresses, tables, reader.uint(), reader.uint())
        reader.finish()
        return record


def sign(record: NodeRecord, key: Ed25519PrivateKey, network_id: bytes) -> bytes:
    payload = record.payload()
    return encode([payload, key.sign(_message(network_id, payload))])


def verify(encoded: bytes, network_id: bytes) -> NodeRecord:
    if len(encoded) > MAX_BYTES:
        raise Refused("too_large", f"expected at most {MAX_BYTES} bytes, got {len(encoded)}")
    reader = Reader(encoded)
    reader.array(2)
    payload, signature = reader.blob(0, MAX_BYTES), reader.blob(64)
    reader.finish()
    record = NodeRecord.decode(payload)
    if _of_small_order(record.key) or _of_small_order(signature[:32]):
        raise Refused("signature_invalid", "a point of small order")
    try:
        Ed25519PublicKey.from_public_bytes(record.key).verify(signature, _message(network_id, payload))
    except (InvalidSignature, ValueError) as error:
        raise Refused("signature_invalid") from error
    return record


def _of_small_order(point: bytes) -> bool:
    """Whether the encoded point has order 1, 2, 4 or 8: then it signs anything."""
    return (int.from_bytes(point, "little") & (1 << 255) - 1) % _P in _SMALL_ORDER_Y


def _message(network_id: bytes, payload: bytes) -> bytes:
    return b"p2pdb node record v1" + network_id + payload
