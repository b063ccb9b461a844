"""Writes a good input of every kind, and every test vector, into the corpora of the fuzz targets: checksums, keys and
required fields are more than a fuzzer guesses. Uses the second implementation; `tests/fuzz/run` calls it with its environment.

    python tests/fuzz/seeds.py tests/fuzz/corpus
"""

import sys
from hashlib import sha256, shake_128
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from p2pdb_spec import entry, export, ids, keys, record, seal
from p2pdb_spec.network import Network
from vectors import Vector

NETWORK_TOML = """name = "fuzz"
bucket_bits = 12
work_price = 1
work_base_bytes = 2048
work_puzzles = 1
max_entry_bytes = 262144
max_clock_ahead = 600
epoch_seconds = 604800
bootstrap = ["/dnsaddr/bootstrap.example.org"]
"""
NETWORK = Network(name="fuzz", work_price=1, work_puzzles=1)
# The first byte of an input of `messages`, and the first four of those that are `Raw`, or `Payload` of three.
REQUEST, RESPONSE, RAW, PAYLOAD = 0, 8, bytes(4), bytes([0, 0, 0, 0x80])
OPERATIONS = {"hello": 0, "put": 1, "index": 2, "announce": 3, "get": 4, "sync": 5, "new-tables": 6}


def pem(key: rsa.RSAPrivateKey, *, public: bool = False, passphrase: bytes | None = None) -> str:
    encoding = serialization.Encoding.PEM
    if public:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(encoding, spki).decode()
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, encryption).decode()


def messages(encoded: bytes, spki: bytes, signed: bytes) -> dict[str, bytes]:
    identifier, cursor = sha256(b"id").digest(), [bytes(8), 7]
    of = {
        "hello-request": (REQUEST + 0, {"record": signed, "tables": [identifier]}),
        "hello-response": (RESPONSE + 0, [0, None, {"record": signed, "records": [signed]}]),
        "put-request": (REQUEST + 1, {"entries": [encoded], "keys": [spki]}),
        "put-response": (RESPONSE + 1, [0, None, {"outcomes": [0, 1, 31]}]),
        "index-request": (
            REQUEST + 2, {"table": identifier, "since": 0, "bucket": 3, "after": identifier, "limit": 9}
        ),
        "index-response": (
            RESPONSE + 2,
            [0, None, {"since": 0, "buckets": [[3, 1, bytes(16)]], "ids": [identifier], "more": False}],
        ),
        "announce": (REQUEST + 3, [identifier]),
        "get-request": (
            REQUEST + 4,
            {"ids": [identifier], "tables": [identifier], "recipients": [identifier], "bucket": 3,
             "seconds_since": 60, "created_from": 1, "created_until": 2, "cursor": cursor, "limit": 100},
        ),
        "get-response": (
            RESPONSE + 4,
            [0, None, {"entries": [[7, encoded]], "keys": [spki], "next": cursor, "more": False}],
        ),
        "busy": (RESPONSE + 4, [1, 250, None]),
    }  # fmt: skip
    return {name: bytes([choice]) + cbor2.dumps(message) for name, (choice, message) in of.items()}


def choice(message: str) -> bytes:
    """The first byte of an input of `messages`, by the name that the vectors give the message."""
    name, _, kind = message.rpartition("-")
    if kind not in ("request", "response"):
        return bytes([REQUEST + OPERATIONS[message]])
    return bytes([(RESPONSE if kind == "response" else REQUEST) + OPERATIONS[name]])


# The target of each area of the vectors, and what of a vector is its input.
AREAS = {
    "difference": ("sketch", lambda vector: RAW + vector.body),
    "entry": ("entry", lambda vector: RAW + vector.body),
    "export": ("export", lambda vector: vector.body),
    "header": ("header", lambda vector: vector.body),
    "ids": ("ids", lambda vector: vector.header["text"].encode()),
    "keys": ("pem", lambda vector: vector.body),
    "messages": ("messages", lambda vector: choice(vector.header["message"]) + vector.body),
    "network": ("network", lambda vector: vector.body),
    "record": ("record", lambda vector: RAW + vector.body),
}


def vectors() -> dict[str, dict[str, bytes]]:
    root = ROOT / "protocol" / "vectors"
    of = {}
    for area, (target, data) in AREAS.items():
        files = sorted((root / area).glob("*.txt"))
        of[target] = {f"vector-{file.stem}": data(Vector.read(file, root)) for file in files}
        assert of[target], f"no vectors in {area}"
    return of


def seeds() -> dict[str, dict[str, bytes]]:
    table, recipient = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    node = Ed25519PrivateKey.generate()
    node_key = node.public_key().public_bytes_raw()
    encoded = seal.seal(NETWORK, table, [recipient.public_key()], 1_800_000_000, "text/plain", b"hello")
    header = entry.Entry.decode(encoded, NETWORK).header_bytes
    spki, table_id = keys.spki(table), keys.key_id(table)
    said = record.NodeRecord(node_key, 1, (b"\x04\x7f\x00\x00\x01\x06\x12\x67",), (table_id,), 0, 30)
    signed = record.sign(said, node, b"\x01" * 32)
    shared, private = pem(recipient, public=True), pem(recipient)
    card = (
        f'version = 1\nname = "fuzz"\n[network]\n{NETWORK_TOML}'
        f"[table]\npublic_key = '''{pem(table, public=True)}'''\nprivate_key = '''{pem(table)}'''\n"
        f"[recipient]\npublic_key = '''{shared}'''\nprivate_key = '''{private}'''\n"
    )
    key_files = {
        "public": pem(table, public=True).encode(),
        "private": pem(table).encode(),
        "encrypted": pem(table, passphrase=b"passphrase").encode(),
    }
    return {
        "card": {"full": card.encode()},
        "entry": {"raw": RAW + encoded},
        "export": {"one": export.write([spki], [encoded]), "none": export.write([], [])},
        "header": {"one": header},
        "ids": {p: ids.show(p, table_id).encode() for p in ("p2entry", "p2table", "p2key", "p2net")},
        "messages": messages(encoded, spki, signed),
        "network": {"file": NETWORK_TOML.encode()},
        "pem": key_files,
        "record": {"raw": RAW + signed, "payload": PAYLOAD + bytes(32) + cbor2.loads(signed)[0]},
        # Any bytes are operations; a fuzzer that begins with none tries single ones for a long time.
        "store": {str(number): shake_128(bytes([number])).digest(400) for number in range(16)},
    }


def main() -> None:
    for inputs_of in (seeds(), vectors()):
        for target, inputs in inputs_of.items():
            directory = Path(sys.argv[1]) / target
            directory.mkdir(parents=True, exist_ok=True)
            for name, data in inputs.items():
                (directory / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
