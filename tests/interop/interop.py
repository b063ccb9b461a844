#!/usr/bin/env python3
"""Makes what the Rust implementation checks, and checks what it makes; README.md says how.

Results go to stdout, as one JSON value but for `vectors`; complaints go to stderr. Exit code 1: something
differs or was refused.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pdb_spec import bucket, entry, export, ids, keys, seal
from p2pdb_spec.card import Card
from p2pdb_spec.network import Network, NetworkFile
from p2pdb_spec.refusal import Refused
from vectors import check_all


def make(arguments: argparse.Namespace) -> int:
    network, card = read_network(arguments.network), Card.parse(arguments.card.read_text())
    if card.network.network != network:
        raise ValueError("the card is of another network")
    if card.table.private is None:
        raise ValueError("the card holds no private key of the table")
    author = keys.private_key_from_pem(arguments.author.read_bytes()) if arguments.author else None
    recipients = [keys.public_key_from_pem(path.read_bytes()) for path in arguments.recipient]
    entries, made = [], []
    for number in range(arguments.count):
        text = f"{arguments.text} {number}"
        created = arguments.created + number
        encoded = seal.seal(
            network, card.table.private, recipients, created, "text/plain", text.encode(), author=author
        )
        entries.append(encoded)
        made.append({"id": show_id(entry.Entry.decode(encoded, network)), "created": created, "text": text})
    arguments.out.write_bytes(export.write([keys.spki(card.table.public)], entries))
    print_json(made)
    return 0


def check(arguments: argparse.Namespace) -> int:
    network = read_network(arguments.network)
    readers = [keys.private_key_from_pem(path.read_bytes()) for path in arguments.recipient_key]
    exported = export.read(arguments.export.read_bytes(), network)
    opened: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    ids_of_table: dict[bytes, list[bytes]] = {}
    for position, encoded in enumerate(exported.entries):
        try:
            admitted, effort = entry.admit(encoded, network, exported.keys.get)
            ids_of_table.setdefault(admitted.header.table, []).append(admitted.id)
            addressed = dict(admitted.header.recipients)
            for key in readers:
                if keys.key_id(key) in addressed:
                    opened.append(show_opened(admitted, effort, seal.open_entry(admitted, key)))
        except Refused as refusal:
            refused.append({"position": position, "reason": refusal.name})
            complain(f"entry {position}: {refusal}")
    print_json(
        {
            "entries": len(exported.entries),
            "fault": exported.fault.name if exported.fault else None,
            "refused": refused,
            "opened": opened,
            "index": {
                ids.show(ids.TABLE, table): index_rows(table_ids, network.bucket_bits)
                for table, table_ids in sorted(ids_of_table.items())
            },
        }
    )
    return 1 if exported.fault or refused else 0


def index(arguments: argparse.Namespace) -> int:
    data = sys.stdin.buffer.read()
    if len(data) % 32:
        raise ValueError(f"expected ids of 32 bytes each, got {len(data)} bytes")
    print_json(index_rows([data[i : i + 32] for i in range(0, len(data), 32)], arguments.bits))
    return 0


def vectors(arguments: argparse.Namespace) -> int:
    return check_all(arguments.directory)


def show_id(shown: entry.Entry) -> str:
    return ids.show(ids.ENTRY, shown.id)


def show_opened(admitted: entry.Entry, effort: int, content: seal.Content) -> dict[str, Any]:
    return {
        "id": show_id(admitted),
        "created": admitted.header.created,
        "effort": effort,
        "media_type": content.media_type,
        "text": content.data.decode(errors="replace"),
        "author": ids.show(ids.RECIPIENT, keys.spki_id(content.author[0])) if content.author else None,
    }


def index_rows(entry_ids: list[bytes], bits: int) -> list[tuple[int, int, str]]:
    return [(number, count, digest.hex()) for number, count, digest in bucket.index(entry_ids, bits)]


def read_network(path: Path) -> Network:
    return NetworkFile.parse(path.read_text()).network


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=1)
    print()


def complain(text: str) -> None:
    print(text, file=sys.stderr)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("vectors", help="check every vector file below a directory")
    command.add_argument("directory", type=Path)
    command.set_defaults(run=vectors)

    command = commands.add_parser("make", help="write an export of new entries")
    command.add_argument("--network", type=Path, required=True, metavar="FILE")
    command.add_argument(
        "--card", type=Path, required=True, metavar="FILE", help="with the table's private key"
    )
    command.add_argument("--recipient", type=Path, required=True, action="append", metavar="PEM")
    command.add_argument("--author", type=Path, metavar="PEM", help="private key that signs the contents")
    command.add_argument("--count", type=int, required=True)
    command.add_argument(
        "--created", type=int, default=int(time.time()), help="unix seconds of the first entry"
    )
    command.add_argument("--text", default="entry", help="entry N holds this and N")
    command.add_argument("--out", type=Path, required=True, metavar="EXPORT")
    command.set_defaults(run=make)

    command = commands.add_parser("check", help="verify an export and open its entries")
    command.add_argument("--network", type=Path, required=True, metavar="FILE")
    command.add_argument("--recipient-key", type=Path, default=[], action="append", metavar="PEM")
    command.add_argument("export", type=Path)
    command.set_defaults(run=check)

    command = commands.add_parser("index", help="the bucket index of the 32-byte ids on stdin")
    command.add_argument("--bits", type=int, default=Network.bucket_bits)
    command.set_defaults(run=index)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parse(arguments)
    try:
        return int(parsed.run(parsed))
    except (Refused, ValueError, OSError) as error:
        complain(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
