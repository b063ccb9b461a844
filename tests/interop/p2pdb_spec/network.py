"""The parameters that all nodes of a network share (2)."""

import re
import tomllib
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from typing import Any

from .cbor_strict import encode

_RANGES = {
    "bucket_bits": (0, 12),
    "work_price": (1, 2**48),
    "work_base_bytes": (1, 2**20),
    "work_puzzles": (1, 256),
    "max_entry_bytes": (4096, 524288),
    "max_clock_ahead": (1, 86400),
    "epoch_seconds": (60, 31536000),
}


@dataclass(frozen=True)
class Network:
    name: str = "p2pdb-main"
    bucket_bits: int = 12
    work_price: int = 2**29
    work_base_bytes: int = 2048
    work_puzzles: int = 64
    max_entry_bytes: int = 262144
    max_clock_ahead: int = 600
    epoch_seconds: int = 604800

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[a-z0-9-]{1,64}", self.name):
            raise ValueError(f"name: expected 1-64 of a-z 0-9 -, got {self.name!r}")
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{key}: expected {low} to {high}, got {value!r}")

    def encode(self) -> bytes:
        return encode(["p2pdb network v1", *astuple(self)])

    @property
    def id(self) -> bytes:
        return sha256(self.encode()).digest()

    @property
    def label(self) -> str:
        """NET of 2.3."""
        return self.id[:8].hex()

    def epoch(self, created: int) -> int:
        return created // self.epoch_seconds


@dataclass(frozen=True)
class NetworkFile:
    network: Network
    bootstrap: tuple[str, ...] = ()

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "NetworkFile":
        """From parsed TOML (2.4), a whole file or the `[network]` of a card."""
        wanted = {field.name for field in fields(Network)} | {"bootstrap"}
        if table.keys() != wanted:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(table.keys() ^ wanted))}")
        bootstrap = table["bootstrap"]
        if not isinstance(bootstrap, list) or not all(isinstance(address, str) for address in bootstrap):
            raise ValueError("bootstrap: expected a list of text")
        parameters = {key: value for key, value in table.items() if key != "bootstrap"}
        return cls(Network(**parameters), tuple(bootstrap))

    @classmethod
    def parse(cls, text: str) -> "NetworkFile":
        return cls.from_table(tomllib.loads(text))
