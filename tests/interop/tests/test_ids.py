import pytest

from p2pdb_spec import ids
from p2pdb_spec.refusal import Refused

KINDS = [ids.TABLE, ids.RECIPIENT, ids.ENTRY, ids.NETWORK]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "identifier", [bytes(32), bytes(range(32)), b"\xff" * 32], ids=["zero", "range", "ones"]
)
def test_round_trip(kind: str, identifier: bytes) -> None:
    text = ids.show(kind, identifier)
    assert text.startswith(kind + "1")
    assert ids.parse(kind, text) == identifier


def test_the_checksum_is_that_of_bip_350() -> None:
    # From the valid strings of BIP-350.
    text = "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx"
    groups = [ids._CHARSET.index(character) for character in text[7:]]
    assert ids._polymod(ids._expand("abcdef") + groups) == ids._BECH32M


@pytest.mark.parametrize("kind", KINDS[1:])
def test_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(Refused):
        ids.parse(ids.TABLE, ids.show(kind, bytes(32)))


def test_every_single_typo_is_refused() -> None:
    text = ids.show(ids.TABLE, bytes(range(32)))
    for position in range(text.index("1") + 1, len(text)):
        typo = "q" if text[position] != "q" else "p"
        with pytest.raises(Refused):
            ids.parse(ids.TABLE, text[:position] + typo + text[position + 1 :])


def test_other_forms_are_refused() -> None:
    text = ids.show(ids.TABLE, bytes(32))
    spoiled_padding = _with_checksum([0] * 51 + [1])
    for other in ["", "1", "p2table1", text.upper(), text[:-1], text + "q", " " + text, spoiled_padding]:
        with pytest.raises(Refused):
            ids.parse(ids.TABLE, other)


def _with_checksum(groups: list[int]) -> str:
    checksum = ids._polymod(ids._expand(ids.TABLE) + groups + [0] * 6) ^ ids._BECH32M
    groups = groups + [checksum >> 5 * i & 31 for i in reversed(range(6))]
    return ids.TABLE + "1" + "".join(ids._CHARSET[group] for group in groups)
