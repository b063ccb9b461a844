"""Export files (12.2)."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .cbor_strict import Reader, encode
from .keys import MAX_SPKI_BYTES, spki_id
from .network import Network
from .refusal import Refused, Truncated

MAGIC = b"p2pdb export v1\n"


@dataclass
class Export:
    keys: dict[bytes, bytes] = field(default_factory=dict)
    """SPKI by TableId."""
    entries: list[bytes] = field(default_factory=list)
    complete: bool = False
    """Whether the last item was there."""


def write(spkis: Iterable[bytes], entries: list[bytes]) -> bytes:
    written = [encode([0, spki]) for spki in spkis] + [encode([1, entry]) for entry in entries]
    return MAGIC + b"".join(written) + encode([2, len(entries)])


def read(data: bytes, network: Network) -> Export:
    """What is there; of a truncated file what was read before the cut."""
    if not data.startswith(MAGIC):
        raise Refused("malformed", "not a p2pdb export")
    export, reader = Export(), Reader(data, position=len(MAGIC))
    try:
        while not export.complete:
            reader.array(2)
            match reader.uint(0, 2):
                case 0:
                    spki = reader.blob(0, MAX_SPKI_BYTES)
                    export.keys[spki_id(spki)] = spki
                case 1:
                    export.entries.append(reader.blob(0, network.max_entry_bytes, reason="too_large"))
                case _:
                    reader.uint(len(export.entries), len(export.entries))
                    export.complete = True
    except Truncated:
        return export
    reader.finish()
    return export
