"""Checks the files below protocol/vectors; their README.md says what they hold.

A check takes a vector and returns what it finds out, as text by header key: of a vector that is `ok` every
key of the header that is no input of the check. A vector that is not `ok` must be `Refused` as it says.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pdb_spec import bucket, entry, export, ids, keys, messages, record, seal, sketch, work
from p2pdb_spec.network import Network, NetworkFile
from p2pdb_spec.refusal import Refused

Found = dict[str, str]
ABOUT = {"about", "spec", "expect"}


@dataclass
class Vector:
    path: Path
    root: Path
    header: dict[str, str]
    body: bytes

    def __post_init__(self) -> None:
        self.inputs: set[str] = set()

    @classmethod
    def read(cls, path: Path, root: Path) -> "Vector":
        head, separator, body = path.read_text(encoding="ascii").partition("\n\n")
        if not separator:
            raise ValueError(f"{path}: no blank line after the header")
        header = {}
        for line in head.splitlines():
            key, separator, value = line.partition(":")
            if not separator or key in header:
                raise ValueError(f"{path}: bad header line {line!r}")
            header[key] = value.strip()
        return cls(path, root, header, bytes.fromhex(body))

    def take(self, key: str) -> str:
        """An input of the check."""
        self.inputs.add(key)
        return self.header[key]

    def number(self, key: str) -> int:
        return int(self.take(key))

    def file(self, key: str) -> bytes:
        return (self.root / self.take(key)).read_bytes()

    def network(self) -> Network:
        return NetworkFile.parse(self.file("network").decode()).network

    def priced(self) -> Network:
        return Network(
            work_price=self.number("work-price"),
            work_base_bytes=self.number("work-base-bytes"),
            work_puzzles=self.number("work-puzzles"),
        )

    def wanted(self) -> Found:
        return {key: value for key, value in self.header.items() if key not in ABOUT | self.inputs}


def check_ids(vector: Vector) -> Found:
    prefix, text = vector.take("prefix"), vector.header["text"]
    identifier = ids.parse(prefix, text)
    if identifier != vector.body:
        raise Refused("other_bytes", identifier.hex())
    return {"text": ids.show(prefix, identifier)}


def check_network(vector: Vector) -> Found:
    try:
        network = NetworkFile.parse(vector.body.decode()).network
    except ValueError as error:
        raise Refused("invalid", str(error)) from error
    return {"id": ids.show(ids.NETWORK, network.id), "label": network.label}


def check_keys(vector: Vector) -> Found:
    key = keys.public_key(vector.body)
    key_id = keys.key_id(key)
    table, recipient = ids.show(ids.TABLE, key_id), ids.show(ids.RECIPIENT, key_id)
    return {"bits": str(key.key_size), "table": table, "recipient": recipient}


def check_header(vector: Vector) -> Found:
    header = entry.Header.decode(vector.body)
    recipients = (f"{ids.show(ids.RECIPIENT, to)}:{len(wrapped)}" for to, wrapped in header.recipients)
    return {
        "table": ids.show(ids.TABLE, header.table),
        "created": str(header.created),
        "expires": _or_null(header.expires),
        "recipients": " ".join(recipients),
        "body-hash": header.body_hash.hex(),
        "body-length": str(header.body_length),
    }


def check_entry(vector: Vector) -> Found:
    now, horizon = vector.number("now"), vector.number("horizon-start")
    admitted, effort = _admit(vector, now=now, horizon=horizon)
    return {"id": ids.show(ids.ENTRY, admitted.id), "effort": str(effort)}


def check_seal(vector: Vector) -> Found:
    reader = keys.private_key_from_pem(vector.file("reader-key"))
    admitted, _ = _admit(vector)
    content = seal.open_entry(admitted, reader)
    author = content.author and ids.show(ids.RECIPIENT, keys.spki_id(content.author[0]))
    return {
        "created": str(admitted.header.created),
        "media-type": content.media_type,
        "data": content.data.hex(),
        "author": _or_null(author),
    }


def check_padding(vector: Vector) -> Found:
    return {"padded": str(seal.padded_length(vector.number("length")))}


def check_price(vector: Vector) -> Found:
    network, size = vector.priced(), vector.number("size")
    return {
        "hashes": str(work.price(network, size)),
        "hashes-per-puzzle": str(work.puzzle_price(network, size)),
        "target": str(work.target(network, size)),
    }


def check_work(vector: Vector) -> Found:
    network, size = vector.priced(), vector.number("size")
    entry_id = ids.parse(ids.ENTRY, vector.take("id"))
    return {"effort": str(work.check(network, entry_id, size, vector.body))}


def check_bucket(vector: Vector) -> Found:
    bits = vector.number("bits")
    number = bucket.bucket_of(vector.body, bits)
    first = number << 256 - bits
    last = first | (1 << 256 - bits) - 1
    shown = (ids.show(ids.ENTRY, bound.to_bytes(32, "big")) for bound in (first, last))
    return dict(zip(("bucket", "first", "last"), (str(number), *shown), strict=True))


def check_index(vector: Vector) -> Found:
    entry_ids = [vector.body[i : i + 32] for i in range(0, len(vector.body), 32)]
    rows = bucket.index(entry_ids, vector.number("bits"))
    return {"buckets": " ".join(f"{number}:{count}:{digest.hex()}" for number, count, digest in rows)}


def check_sketch(vector: Vector) -> Found:
    entry_ids = [vector.body[i : i + 32] for i in range(0, len(vector.body), 32)]
    counters = sketch.tow(entry_ids)
    return {
        "n": str(len(entry_ids)),
        "root": sketch.root(entry_ids).hex(),
        "tow": b"".join(counter.to_bytes(2, "big") for counter in counters).hex(),
        "syndromes": sketch.pack(sketch.syndromes(map(sketch.sid_of, entry_ids), 64)).hex(),
    }


def check_difference(vector: Vector) -> Found:
    return {"sids": " ".join(f"{sid:016x}" for sid in sketch.decode(sketch.unpack(vector.body)))}


def check_roots(vector: Vector) -> Found:
    rows = [vector.body[i : i + 48] for i in range(0, len(vector.body), 48)]
    return {"digest": sketch.digest_of_all((row[:32], row[32:]) for row in rows).hex()}


def check_record(vector: Vector) -> Found:
    found = record.verify(vector.body, ids.parse(ids.NETWORK, vector.take("network-id")))
    tables = None if found.tables is None else " ".join(ids.show(ids.TABLE, table) for table in found.tables)
    return {
        "key": found.key.hex(),
        "peer-id": found.peer_id.hex(),
        "sequence": str(found.sequence),
        "addresses": " ".join(address.hex() for address in found.addresses),
        "tables": _or_null(tables),
        "horizon": str(found.horizon),
        "puts-per-minute": str(found.puts_per_minute),
    }


def check_messages(vector: Vector) -> Found:
    message = vector.take("message")
    operation, _, direction = message.partition("-")
    if direction == "request":
        value: Any = messages.decode_request(operation, vector.body, Network())
    elif direction == "response":
        value = messages.decode_reply(operation, vector.body)
    elif message == "new-tables":
        value = messages.decode_new_tables(vector.body)
    else:
        value = messages.decode_announce(vector.body)
    return {"json": json.dumps(_plain(value), separators=(",", ":"), sort_keys=True)}


def _plain(value: Any) -> Any:
    """As JSON: bytes in hex, keys that are null left out."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: _plain(item) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def check_export(vector: Vector) -> Found:
    exported = export.read(vector.body, Network(max_entry_bytes=524288))
    # What was read before a fault is good, and counted in these vectors.
    counts = {"table-keys": str(len(exported.keys)), "entries": str(len(exported.entries))}
    if exported.fault and counts == vector.wanted():
        raise exported.fault
    return counts


def _admit(vector: Vector, now: int | None = None, horizon: int = 0) -> tuple[entry.Entry, int]:
    spki = keys.spki(keys.private_key_from_pem(vector.file("table-key")))
    return entry.admit(vector.body, vector.network(), lambda _: spki, now=now, horizon=horizon)


def _or_null(value: object) -> str:
    return "null" if value is None else str(value)


CHECKS: dict[str, Callable[[Vector], Found]] = {
    "bucket": check_bucket, "difference": check_difference, "roots": check_roots, "sketch": check_sketch,
    "entry": check_entry, "export": check_export, "header": check_header,
    "ids": check_ids, "index": check_index, "keys": check_keys, "network": check_network,
    "messages": check_messages, "padding": check_padding, "price": check_price, "record": check_record,
    "seal": check_seal, "work": check_work,
}  # fmt: skip


def difference(path: Path, root: Path) -> str | None:
    """What this implementation finds other than the vector says."""
    area = path.parent.name
    if area not in CHECKS:
        return "no check for this area"
    try:
        vector = Vector.read(path, root)
        expected = vector.header["expect"]
        found = CHECKS[area](vector)
    except Refused as refusal:
        return None if refusal.name == expected else f"expected {expected}, got {refusal}"
    except (KeyError, ValueError, OSError) as error:
        return f"not a vector of this area: {error!r}"
    if expected != "ok":
        return f"expected {expected}, got ok"
    wanted = vector.wanted()
    return None if found == wanted else f"expected {wanted}, got {found}"


def check_all(root: Path) -> int:
    """Prints a line for every area, and every difference to stderr; the exit code."""
    passed: Counter[str] = Counter()
    differences: Counter[str] = Counter()
    for path in sorted(root.glob("*/*.txt")):
        area, found = path.parent.name, difference(path, root)
        (differences if found else passed)[area] += 1
        if found:
            print(f"{path.relative_to(root)}: {found}", file=sys.stderr)
    for area in sorted(passed | differences):
        print(f"{area}: {passed[area]} passed, {differences[area]} differ")
    print(f"{passed.total()} passed, {differences.total()} failed")
    return 1 if differences or not passed else 0
