"""Ids for people (3.3): bech32m of BIP-350 over the whole 32 bytes."""

from .refusal import Refused

TABLE, RECIPIENT, ENTRY, NETWORK = "p2table", "p2key", "p2entry", "p2net"

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def show(prefix: str, identifier: bytes) -> str:
    """The text of a 32-byte id."""
    # 256 bits are 51.2 groups of five: four zero bits fill the last.
    number = int.from_bytes(identifier, "big") << 4
    groups = [number >> 5 * i & 31 for i in reversed(range(52))]
    checksum = _polymod(_expand(prefix) + groups + [0] * 6) ^ _BECH32M
    groups += [checksum >> 5 * i & 31 for i in reversed(range(6))]
    return f"{prefix}1{''.join(_CHARSET[group] for group in groups)}"


def parse(prefix: str, text: str) -> bytes:
    """The id in `text`, else refused as `malformed`, `wrong_type` or `wrong_length`."""
    found, _, data = text.rpartition("1")
    groups = [_CHARSET.find(character) for character in data]
    if not found or len(groups) < 6 or -1 in groups or _polymod(_expand(found) + groups) != _BECH32M:
        raise Refused("malformed", "not bech32m in lower case, or mistyped")
    if found != prefix:
        raise Refused("wrong_type", f"expected an id that begins with {prefix}1, got {found}1")
    length, surplus_bits = divmod(5 * (len(groups) - 6), 8)
    number = 0
    for group in groups[:-6]:
        number = number << 5 | group
    if surplus_bits > 4 or number & (1 << surplus_bits) - 1:
        raise Refused("malformed", "the last bits are no padding")
    if length != 32:
        raise Refused("wrong_length", f"expected 32 bytes, got {length}")
    return (number >> surplus_bits).to_bytes(length, "big")


def _expand(prefix: str) -> list[int]:
    codes = [ord(character) for character in prefix]
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(groups: list[int]) -> int:
    checksum = 1
    for group in groups:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ group
        for i, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> i & 1 else 0
    return checksum
