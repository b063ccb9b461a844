from dataclasses import replace

import pytest

from p2pdb_spec import bucket, work
from p2pdb_spec.network import Network


def test_price_rises_with_the_size_beyond_the_base() -> None:
    network = Network()
    assert [work.price(network, size) for size in (0, 2048, 2049, 4096)] == [
        2**29, 2**29, 2**29 * 2049 // 2048, 2**30,
    ]  # fmt: skip
    assert work.target(network, 0) == (2**64 - 1) // 2**23


def test_prices_beyond_64_bits_and_of_nothing() -> None:
    dear = Network(work_price=2**48, work_base_bytes=1, work_puzzles=1)
    assert work.price(dear, 2**18) == 2**66
    assert work.target(dear, 2**18) == 0
    assert work.target(Network(work_price=1), 0) == 2**64 - 1


def test_solving_is_deterministic_and_checks(network: Network) -> None:
    entry_id = bytes(range(32))
    proof = work.solve(network, entry_id, 100)
    assert proof == work.solve(network, entry_id, 100)
    effort = work.check(network, entry_id, 100, proof)
    assert effort >= work.price(network, 100)
    # Better work than asked is accepted, for the same effort.
    assert work.check(replace(network, work_price=1), entry_id, 100, proof) == effort


def test_effort_is_that_of_the_worst_puzzle_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(work_price=1, work_puzzles=2)
    values = {0: 5, 1: 1000}
    monkeypatch.setattr(work, "_value", lambda start, puzzle, nonce: values[puzzle])
    assert work.check(network, bytes(32), 0, bytes(16)) == 2 * ((2**64 - 1) // 1000)
    values = {0: 0, 1: 0}
    assert work.check(network, bytes(32), 0, bytes(16)) == 2**64 - 1


def test_bucket_index() -> None:
    low, high, last = b"\x00\x0f" + bytes(30), b"\x00\x0f" + b"\x01" * 30, b"\xff" * 32
    assert bucket.index([], 12) == []
    assert [row[:2] for row in bucket.index([last, high, low, low], 12)] == [(0, 2), (4095, 1)]
    assert [row[:2] for row in bucket.index([last, high, low], 0)] == [(0, 3)]
    assert bucket.index([high, low], 12) == bucket.index([low, high], 12)
    # md5 of 32 bytes 0xff, by another tool.
    assert bucket.index([last], 12)[0][2].hex() == "0d7dc4266497100e4831f5b31b6b274f"
