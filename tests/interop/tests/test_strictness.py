"""A strict decoder takes one encoding: whatever it takes, it encodes back to the same bytes (1.2)."""

from collections.abc import Callable
from random import Random

import pytest
from test_record import HONEST

from p2pdb_spec.entry import Entry, Header
from p2pdb_spec.network import Network
from p2pdb_spec.record import NodeRecord
from p2pdb_spec.refusal import CODES, Refused
from p2pdb_spec.seal import Content

ROUNDS = 5000


def mutate(random: Random, data: bytes) -> bytes:
    """A byte changed, inserted, put in a longer form or removed, mostly in front, where the structure is."""
    position = random.randrange(min(len(data), random.choice([8, 60, len(data)])))
    head = data[position]
    long_form = bytes([head & 0xE0 | 24, head & 0x1F])
    middle = [random.randbytes(1), random.randbytes(1) + data[position : position + 1], long_form, b""]
    return data[:position] + random.choice(middle) + data[position + 1 :]


@pytest.mark.parametrize("seed", range(3))
def test_what_decodes_encodes_to_the_same(sealed: bytes, network: Network, seed: int) -> None:
    header = Entry.decode(sealed, network).header_bytes
    decoders: list[tuple[bytes, Callable[[bytes], bytes]]] = [
        (sealed, lambda data: Entry.decode(data, network).encode()),
        (header, lambda data: Header.decode(data).encode()),
        (
            Content("text/plain", b"x" * 30, (b"k" * 294, b"s" * 256)).encode(),
            lambda d: Content.decode(d).encode(),
        ),
        (HONEST.payload(), lambda data: NodeRecord.decode(data).payload()),
    ]
    random = Random(seed)
    for honest, recode in decoders:
        seen: dict[str, int] = {"taken": 0, "malformed": 0, "non_canonical": 0}
        for _ in range(ROUNDS):
            data = mutate(random, honest)
            try:
                assert recode(data) == data
                seen["taken"] += 1
            except Refused as refusal:
                assert refusal.name in CODES
                seen[refusal.name] = seen.get(refusal.name, 0) + 1
        assert min(seen.values()) > 0, seen
