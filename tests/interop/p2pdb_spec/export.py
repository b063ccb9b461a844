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
    fault: Refused | None = None
    """Why not all was read: `not_an_export`, `truncated`, `too_large`, `malformed` or `wrong_count`."""


def write(spkis: Iterable[bytes], entries: list[bytes]) -> bytes:
    written = [encode([0, spki]) for spki in spkis] + [encode([1, entry]) for entry in entries]
    return MAGIC + b"".join(written) + encode([2, len(entries)])


def read(data: bytes, network: Network) -> Export:
    """What is there, up to the first fault: what was read is good."""
    export = Export()
    try:
        if not data.startswith(MAGIC):
            raise Refused("not_an_export")
        reader = Reader(data, position=len(MAGIC))
        while not _read_item(reader, export, network):
            pass
        reader.finish()
    except Truncated:
        export.fault = Refused("truncated")
    except Refused as fault:
        export.fault = Refused("malformed", str(fault)) if fault.name == "non_canonical" else fault
    return export


def _read_item(reader: Reader, export: Export, network: Network) -> bool:
    """Whether it was the last."""
    reader.array(2)
    kind = reader.uint(0, 2)
    if kind == 0:
        spki = reader.blob(0, MAX_SPKI_BYTES, reason="too_large")
        export.keys[spki_id(spki)] = spki
    elif kind == 1:
        export.entries.append(reader.blob(0, network.max_entry_bytes, reason="too_large"))
    elif (count := reader.uint()) != len(export.entries):
        raise Refused("wrong_count", f"expected {count} entries, got {len(export.entries)}")
    return kind == 2
