"""Proof of work (5.1 to 5.4)."""

from hashlib import sha256
from itertools import count

from .network import Network
from .refusal import Refused

_MAX = 2**64 - 1


def price(network: Network, priced_size: int) -> int:
    """H, in hashes; `priced_size` is the length of header and body."""
    return network.work_price * max(priced_size, network.work_base_bytes) // network.work_base_bytes


def puzzle_price(network: Network, priced_size: int) -> int:
    """h, in hashes."""
    return max(1, -(-price(network, priced_size) // network.work_puzzles))


def target(network: Network, priced_size: int) -> int:
    return _MAX // puzzle_price(network, priced_size)


def seed(entry_id: bytes) -> bytes:
    return sha256(b"p2pdb work v1" + entry_id).digest()


def solve(network: Network, entry_id: bytes, priced_size: int) -> bytes:
    """The least nonce of every puzzle: the same work each time."""
    goal, start = target(network, priced_size), seed(entry_id)
    return b"".join(
        next(nonce for nonce in map(_nonce, count()) if _value(start, puzzle, nonce) <= goal)
        for puzzle in range(network.work_puzzles)
    )


def check(network: Network, entry_id: bytes, priced_size: int, work: bytes) -> int:
    """The effort of the work, which is otherwise refused."""
    if len(work) != 8 * network.work_puzzles:
        raise Refused("work_malformed", f"expected {8 * network.work_puzzles} bytes, got {len(work)}")
    start = seed(entry_id)
    worst = max(_value(start, i, work[8 * i : 8 * i + 8]) for i in range(network.work_puzzles))
    if worst > target(network, priced_size):
        raise Refused("work_insufficient", f"value {worst} above target {target(network, priced_size)}")
    return min(_MAX, network.work_puzzles * (_MAX // max(1, worst)))


def _nonce(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _value(start: bytes, puzzle: int, nonce: bytes) -> int:
    return int.from_bytes(sha256(start + puzzle.to_bytes(4, "big") + nonce).digest()[:8], "big")
