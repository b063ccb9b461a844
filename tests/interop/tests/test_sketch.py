from random import Random

import pytest
from conftest import reason

from p2pdb_spec import sketch


def test_the_field_is_a_field() -> None:
    random = Random(1)
    for _ in range(20):
        a, b, c = (random.getrandbits(64) | 1 for _ in range(3))
        assert sketch.multiply(a, b) == sketch.multiply(b, a)
        assert sketch.multiply(a, b ^ c) == sketch.multiply(a, b) ^ sketch.multiply(a, c)
        assert sketch.multiply(a, sketch.invert(a)) == 1


@pytest.mark.parametrize(("common", "own", "other", "count"), [(50, 3, 4, 16), (0, 0, 1, 2), (5, 0, 0, 16)])
def test_two_nodes_find_their_difference(common: int, own: int, other: int, count: int) -> None:
    """All that `sync` takes: each side sends its syndromes, and the sum of both decodes."""
    random = Random(common)
    shared, here, there = ([random.randbytes(32) for _ in range(n)] for n in (common, own, other))
    sets = [[sketch.sid_of(i) for i in shared + extra] for extra in (here, there)]
    mine, theirs = (sketch.unpack(sketch.pack(sketch.syndromes(sids, count))) for sids in sets)
    found = sketch.decode([a ^ b for a, b in zip(mine, theirs, strict=True)])
    assert found == sorted(map(sketch.sid_of, here + there))
    # The own set, changed by what was found, has the peer's root.
    fetched = [i for i in there if sketch.sid_of(i) in found]
    kept = [i for i in shared + here if sketch.sid_of(i) not in found]
    assert sketch.root(kept + fetched) == sketch.root(shared + there)


def test_what_is_too_much_is_refused() -> None:
    random = Random(3)
    sids = [random.getrandbits(64) | 1 for _ in range(12)]
    for count in (4, 8, 12):
        assert reason(sketch.decode, sketch.syndromes(sids, count)) == "undecodable"
    assert reason(sketch.decode, [0, 1, 0]) == "undecodable"


def test_groups_add_up_and_estimates_are_near() -> None:
    random = Random(4)
    ids = [random.randbytes(32) for _ in range(64)]
    parts = [[sketch.sid_of(i) for i in ids if sketch.group_of(i, 2) == g] for g in range(4)]
    sums = [sketch.syndromes(part, 4) for part in parts]
    whole = sketch.syndromes(map(sketch.sid_of, ids), 4)
    assert [a ^ b ^ c ^ d for a, b, c, d in zip(*sums, strict=True)] == whole
    assert 30 < sketch.distance(sketch.tow(ids), [0] * 64) < 130
    assert sketch.distance(sketch.tow(ids), sketch.tow(ids)) == 0
