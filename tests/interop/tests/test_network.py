import tomllib
from dataclasses import fields
from typing import Any

import pytest

from p2pdb_spec.network import Network, NetworkFile

FILE = (
    "\n".join(f"{field.name} = {field.default!r}" for field in fields(Network))
    + "\nbootstrap = ['/dnsaddr/a']\n"
)


def test_the_default_network() -> None:
    parsed = NetworkFile.parse(FILE)
    assert parsed == NetworkFile(Network(), ("/dnsaddr/a",))
    assert parsed.network.label == parsed.network.id.hex()[:16]


def test_every_parameter_changes_the_id() -> None:
    changed: dict[str, Any] = {"name": "other", "bucket_bits": 11, "max_entry_bytes": 4096}
    ids = {Network(**{field.name: changed.get(field.name, 77)}).id for field in fields(Network)}
    assert len(ids | {Network().id}) == len(fields(Network)) + 1


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("name", ""), ("name", "A"), ("name", "a" * 65), ("name", "é"), ("name", 7), ("name", "a\n"),
        ("bucket_bits", 13), ("bucket_bits", -1), ("bucket_bits", True), ("bucket_bits", 1.0),
        ("work_price", 0), ("work_price", 2**48 + 1), ("work_base_bytes", 0), ("work_base_bytes", 2**20 + 1),
        ("work_puzzles", 0), ("work_puzzles", 257), ("max_entry_bytes", 4095), ("max_entry_bytes", 524289),
        ("max_clock_ahead", 0), ("max_clock_ahead", 86401), ("epoch_seconds", 59),
        ("epoch_seconds", 31536001),
    ],
)  # fmt: skip
def test_parameters_out_of_range(key: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=key):
        Network(**{key: bad})


@pytest.mark.parametrize("key", [field.name for field in fields(Network)])
def test_a_file_needs_every_key(key: str) -> None:
    table = tomllib.loads(FILE)
    del table[key]
    with pytest.raises(ValueError, match=key):
        NetworkFile.from_table(table)


def test_a_file_has_no_unknown_key() -> None:
    with pytest.raises(ValueError, match="surplus"):
        NetworkFile.parse(FILE + "surplus = 1\n")
