import cbor2
import pytest

from p2pdb_spec.cbor_strict import Reader, Value, encode
from p2pdb_spec.refusal import Refused

VALUES: list[Value] = [
    0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, None, True, False, b"", b"x" * 24,
    b"y" * 70000, "", "é" * 200, [], [1, [b"z", None]] * 12, {"a": 1, "b": [2]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_an_independent_encoder_agrees(value: Value) -> None:
    assert encode(value) == cbor2.dumps(value)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_integers_beyond_the_protocol_are_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode(value)


@pytest.mark.parametrize(
    ("data", "method", "reason"),
    [
        ("1817", "uint", "non_canonical"),
        ("1900ff", "uint", "non_canonical"),
        ("1a0000ffff", "uint", "non_canonical"),
        ("1b00000000ffffffff", "uint", "non_canonical"),
        ("580161", "blob", "non_canonical"),
        ("5f4161ff", "blob", "non_canonical"),
        ("780161", "text", "non_canonical"),
        ("7f6161ff", "text", "non_canonical"),
        ("980101", "array", "non_canonical"),
        ("9f01ff", "array", "non_canonical"),
        ("", "uint", "malformed"),
        ("18", "uint", "malformed"),
        ("1c", "uint", "malformed"),
        ("1f", "uint", "malformed"),
        ("20", "uint", "malformed"),
        ("c100", "uint", "malformed"),
        ("f93c00", "uint", "malformed"),
        ("f6", "uint", "malformed"),
        ("6161", "blob", "malformed"),
        ("4261", "blob", "malformed"),
        ("4c" + 12 * "00", "blob", "malformed"),
        ("5bffffffffffffffff", "blob", "malformed"),
        ("61ff", "text", "malformed"),
        ("8b", "array", "malformed"),
        ("9affffffff", "array", "malformed"),
    ],
)
def test_what_is_not_strict_is_refused(data: str, method: str, reason: str) -> None:
    bounds = () if method == "uint" else (0, 10)
    with pytest.raises(Refused) as refusal:
        getattr(Reader(bytes.fromhex(data)), method)(*bounds)
    assert refusal.value.name == reason


def test_long_forms_are_lenient() -> None:
    assert Reader(bytes.fromhex("1900ff"), strict=False).uint() == 255


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_skip_reads_exactly_one_item(value: Value) -> None:
    reader = Reader(encode(value) + b"\x07", strict=False)
    reader.skip()
    assert reader.uint() == 7
    reader.finish()


@pytest.mark.parametrize("data", ["5f4161ff", "bf616101ff", "c11a00000000", "fb3ff0000000000000", "20"])
def test_skip_reads_what_the_protocol_never_writes(data: str) -> None:
    reader = Reader(bytes.fromhex(data), strict=False)
    reader.skip()
    reader.finish()


def test_skip_is_bounded_in_depth() -> None:
    with pytest.raises(Refused, match="nested"):
        Reader(b"\x81" * 1000, strict=False).skip()
