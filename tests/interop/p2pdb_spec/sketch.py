"""Sketches of sets of ids and how they are decoded (10.6)."""

from collections.abc import Iterable, Sequence
from functools import reduce
from hashlib import sha256
from operator import xor

from .refusal import Refused

MODULUS = 1 << 64 | 0x1B
"""x^64 + x^4 + x^3 + x + 1."""


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> 64:
            a ^= MODULUS
        b >>= 1
    return product


def invert(a: int) -> int:
    """a to the power of 2^64 - 2."""
    result = 1
    for _ in range(63):
        a = multiply(a, a)
        result = multiply(result, a)
    return result


def sid_of(entry_id: bytes) -> int:
    return int.from_bytes(entry_id[:8], "big") or 1


def group_of(entry_id: bytes, level: int) -> int:
    return int.from_bytes(entry_id[:2], "big") >> 16 - level


def syndromes(sids: Iterable[int], count: int) -> list[int]:
    sums = [0] * count
    for sid in sids:
        power, square = sid, multiply(sid, sid)
        for k in range(count):
            sums[k] ^= power
            power = multiply(power, square)
    return sums


def tow(entry_ids: Iterable[bytes]) -> list[int]:
    """The 64 counters."""
    counters = [0] * 64
    for entry_id in entry_ids:
        bits = int.from_bytes(entry_id[16:24], "big")
        for i in range(64):
            counters[i] += 1 if bits >> 63 - i & 1 else -1
    return [counter & 0xFFFF for counter in counters]


def distance(own: Sequence[int], other: Sequence[int]) -> int:
    """The estimated number of ids that only one of two sets has."""
    differences = ((a - b + 0x8000 & 0xFFFF) - 0x8000 for a, b in zip(own, other, strict=True))
    return -(-sum(d * d for d in differences) // len(own))


def root(entry_ids: Sequence[bytes]) -> bytes:
    total = sum(int.from_bytes(entry_id, "big") for entry_id in entry_ids) % (1 << 256)
    count = len(entry_ids).to_bytes(8, "big")
    return sha256(b"p2pdb root v1" + total.to_bytes(32, "big") + count).digest()[:16]


def digest_of_all(tables: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Of pairs of TableId and root."""
    rows = b"".join(table + table_root for table, table_root in sorted(tables))
    return sha256(b"p2pdb roots v1" + rows).digest()[:16]


def pack(words: Iterable[int]) -> bytes:
    return b"".join(word.to_bytes(8, "big") for word in words)


def unpack(data: bytes) -> list[int]:
    if len(data) % 8:
        raise Refused("malformed", f"expected whole numbers of 8 bytes, got {len(data)} bytes")
    return [int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8)]


Polynomial = list[int]
"""Coefficients from the constant one on; the last one is not 0."""


def decode(odd: Sequence[int]) -> list[int]:
    """The elements of a set with these syndromes, ascending; fewer than there are syndromes."""
    locator = shortest_recurrence(odd)
    elements = roots(locator[::-1]) if len(locator) - 1 < len(odd) else []
    if not elements and any(odd) or syndromes(elements, len(odd)) != list(odd):
        raise Refused("undecodable", "not the syndromes of so small a set")
    return sorted(elements)


def shortest_recurrence(odd: Sequence[int]) -> Polynomial:
    """The algorithm of Berlekamp and Massey over all power sums, of which the even ones are squares."""
    sums = [0] * (2 * len(odd) + 1)
    for k in range(1, len(sums)):
        sums[k] = odd[k // 2] if k % 2 else multiply(sums[k // 2], sums[k // 2])
    current, before, length, gap, last = [1], [1], 0, 1, 1
    for n in range(len(sums) - 1):
        terms = (multiply(current[i], sums[n + 1 - i]) for i in range(min(len(current), n + 1)))
        discrepancy = reduce(xor, terms, 0)
        if discrepancy:
            factor = multiply(discrepancy, invert(last))
            shifted = [0] * gap + [multiply(factor, a) for a in before]
            longer = _add(current, shifted)
            if 2 * length <= n:
                length, before, last, gap = n + 1 - length, current, discrepancy, 0
            current = longer
        gap += 1
    return _trim(current)


def roots(polynomial: Polynomial) -> list[int]:
    """Berlekamp's trace algorithm; not all of them if some are multiple or outside of the field."""
    found: list[int] = []
    parts = [(_monic(_trim(polynomial)), 0)]
    while parts:
        part, first = parts.pop()
        if len(part) == 2:
            found.append(part[0])
        if len(part) <= 2:
            continue
        conjugates = _conjugates(part)
        for number in range(first, 64):
            divisor = _gcd(part, _trace(1 << number, conjugates))
            if 1 < len(divisor) < len(part):
                parts += [(divisor, number + 1), (_monic(_divide(part, divisor)[0]), number + 1)]
                break
    return found


def _conjugates(modulus: Polynomial) -> list[Polynomial]:
    """x, x^2, x^4, ... x^(2^63)."""
    powers, power = [], _divide([0, 1], modulus)[1]
    for _ in range(64):
        powers.append(power)
        squares = [0] * (2 * len(power))
        squares[::2] = [multiply(a, a) for a in power]
        power = _divide(squares, modulus)[1]
    return powers


def _trace(factor: int, conjugates: list[Polynomial]) -> Polynomial:
    """Of factor times x: the sum of its conjugates."""
    total: Polynomial = []
    for power in conjugates:
        total = _add(total, [multiply(factor, a) for a in power])
        factor = multiply(factor, factor)
    return _trim(total)


def _trim(a: Polynomial) -> Polynomial:
    while a and not a[-1]:
        a = a[:-1]
    return a


def _add(a: Polynomial, b: Polynomial) -> Polynomial:
    size = max(len(a), len(b))
    return [x ^ y for x, y in zip(a + [0] * (size - len(a)), b + [0] * (size - len(b)), strict=True)]


def _monic(a: Polynomial) -> Polynomial:
    factor = invert(a[-1])
    return [multiply(factor, x) for x in a]


def _divide(a: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Quotient and remainder; the divisor's leading coefficient is 1."""
    rest, quotient = list(a), [0] * max(0, len(a) - len(divisor) + 1)
    for shift in reversed(range(len(quotient))):
        factor = quotient[shift] = rest[shift + len(divisor) - 1]
        if factor:
            for i, x in enumerate(divisor):
                rest[shift + i] ^= multiply(factor, x)
    return quotient, _trim(rest[: len(divisor) - 1])


def _gcd(a: Polynomial, b: Polynomial) -> Polynomial:
    while b := _trim(b):
        b = _monic(b)
        a, b = b, _divide(a, b)[1]
    return a
