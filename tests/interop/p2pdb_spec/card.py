"""Table cards (12.1)."""

import tomllib
from dataclasses import dataclass
from typing import Any

from . import keys
from .network import NetworkFile


@dataclass(frozen=True)
class KeyPair:
    public: keys.PublicKey
    private: keys.PrivateKey | None

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "KeyPair":
        _expect(table, {"public_key"}, {"private_key"})
        public = keys.public_key_from_pem(table["public_key"].encode())
        private = None
        if "private_key" in table:
            private = keys.private_key_from_pem(table["private_key"].encode())
            if keys.spki(private) != keys.spki(public):
                raise ValueError("private and public key do not match")
        return cls(public, private)


@dataclass(frozen=True)
class Card:
    name: str
    network: NetworkFile
    table: KeyPair
    recipient: KeyPair | None

    @classmethod
    def parse(cls, text: str) -> "Card":
        card = tomllib.loads(text)
        _expect(card, {"version", "name", "network", "table"}, {"recipient"})
        if card["version"] != 1:
            raise ValueError(f"version: expected 1, got {card['version']!r}")
        recipient = KeyPair.from_table(card["recipient"]) if "recipient" in card else None
        table = KeyPair.from_table(card["table"])
        return cls(card["name"], NetworkFile.from_table(card["network"]), table, recipient)


def _expect(table: dict[str, Any], needed: set[str], optional: set[str]) -> None:
    if missing := needed - table.keys():
        raise ValueError(f"missing keys: {', '.join(sorted(missing))}")
    if unknown := table.keys() - needed - optional:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
