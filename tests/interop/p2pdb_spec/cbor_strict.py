"""Deterministic CBOR (1.2): an encoder, and a reader that checks every length before it allocates (1.4).

With `strict=False` the reader serves the lenient objects of 1.3.
"""

from collections.abc import Sequence
from typing import Union

from .refusal import Refused, Truncated

Value = Union[int, bytes, str, None, bool, Sequence["Value"], dict[str, "Value"]]

MAX_UINT = 2**64 - 1
UINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = 0, 2, 3, 4, 5, 6, 7
MAX_DEPTH = 16
_FALSE, _TRUE, _NULL, _BREAK = 0xF4, 0xF5, 0xF6, 0xFF
_TYPE_NAMES = {UINT: "an unsigned integer", BYTES: "bytes", TEXT: "text", ARRAY: "an array", MAP: "a map"}


def _head(major: int, argument: int) -> bytes:
    if not 0 <= argument <= MAX_UINT:
        raise ValueError(f"{argument} does not fit 64 bits")
    if argument < 24:
        return bytes([major << 5 | argument])
    power = next(power for power in range(4) if argument < 1 << (8 << power))
    return bytes([major << 5 | 24 + power]) + argument.to_bytes(1 << power, "big")


def encode(value: Value) -> bytes:
    """The one encoding of `value`; maps, which are never strict, keep their order."""
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            return bytes([_TRUE if value else _FALSE])
        case int():
            return _head(UINT, value)
        case bytes():
            return _head(BYTES, len(value)) + value
        case str():
            data = value.encode()
            return _head(TEXT, len(data)) + data
        case dict():
            return _head(MAP, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
        case _:
            return _head(ARRAY, len(value)) + b"".join(map(encode, value))


class Reader:
    """Reads one item after the other; what is not there as expected is `Refused`."""

    def __init__(self, data: bytes, *, strict: bool = True, position: int = 0) -> None:
        self.data, self.strict, self.position = data, strict, position

    def uint(self, low: int = 0, high: int = MAX_UINT, *, reason: str = "malformed") -> int:
        return self._argument(UINT, low, high, reason)

    def blob(self, low: int, high: int | None = None, *, reason: str = "malformed") -> bytes:
        """A byte string of `low` to `high` bytes; of exactly `low` without `high`."""
        return self._take(self._argument(BYTES, low, low if high is None else high, reason))

    def text(self, low: int, high: int) -> str:
        try:
            return self._take(self._argument(TEXT, low, high, "malformed")).decode()
        except UnicodeDecodeError as error:
            raise Refused("malformed", str(error)) from error

    def array(self, low: int, high: int | None = None, *, reason: str = "malformed") -> int:
        """The head of an array of `low` to `high` elements; returns their number."""
        return self._argument(ARRAY, low, low if high is None else high, reason)

    def map(self) -> int:
        return self._argument(MAP, 0, MAX_UINT, "malformed")

    def boolean(self) -> bool:
        byte = self._take(1)[0]
        if byte not in (_FALSE, _TRUE):
            raise Refused("malformed", f"expected a boolean, got byte {byte:#04x}")
        return byte == _TRUE

    def null(self) -> bool:
        """Whether null is next; then it is read."""
        found = self.data[self.position : self.position + 1] == bytes([_NULL])
        self.position += found
        return found

    def finish(self) -> None:
        if rest := len(self.data) - self.position:
            raise Refused("malformed", f"{rest} bytes after the object")

    def skip(self, depth: int = MAX_DEPTH) -> None:
        """Reads any well-formed item, the value of an unknown key (1.3)."""
        if depth == 0:
            raise Refused("malformed", f"nested deeper than {MAX_DEPTH}")
        major, info = divmod(self._take(1)[0], 32)
        if info == 31 and BYTES <= major <= MAP:
            while self.data[self.position : self.position + 1] != bytes([_BREAK]):
                self.skip(depth - 1)
            self.position += 1
            return
        argument = self._number(info)
        if major in (BYTES, TEXT):
            self._take(argument)
        elif major in (ARRAY, MAP, TAG):
            for _ in range({ARRAY: argument, MAP: 2 * argument, TAG: 1}[major]):
                self.skip(depth - 1)

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise Truncated
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise Refused("malformed", f"additional information {info}")
        return int.from_bytes(self._take(1 << info - 24), "big")

    def _argument(self, expected: int, low: int, high: int, reason: str) -> int:
        major, info = divmod(self._take(1)[0], 32)
        if major != expected:
            raise Refused("malformed", f"expected {_TYPE_NAMES[expected]}, got major type {major}")
        if info == 31 and major != UINT:
            raise Refused("non_canonical" if self.strict else "malformed", "indefinite length")
        argument = self._number(info)
        if self.strict and info >= 24 and _head(major, argument)[0] != major << 5 | info:
            raise Refused("non_canonical", f"{argument} is not in its shortest form")
        if not low <= argument <= high:
            raise Refused(reason, f"{_TYPE_NAMES[expected]}: expected {low} to {high}, got {argument}")
        return argument
