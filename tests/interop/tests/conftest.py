"""Keys and a cheap network that the tests share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

INTEROP = Path(__file__).parent.parent
sys.path.insert(0, str(INTEROP))

from p2pdb_spec import keys, seal  # noqa: E402
from p2pdb_spec.network import Network  # noqa: E402
from p2pdb_spec.refusal import Refused  # noqa: E402

NOW = 1_800_000_000


def reason(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """Why the call is refused."""
    with pytest.raises(Refused) as refusal:
        call(*arguments, **named)
    return refusal.value.name


def generate(bits: int = 2048, exponent: int = 65537) -> keys.PrivateKey:
    return rsa.generate_private_key(exponent, bits)


@pytest.fixture(scope="session")
def network() -> Network:
    """Puzzles of 4 hashes; 8 of them."""
    return Network(name="cheap", work_price=32, work_puzzles=8, max_entry_bytes=8192)


@pytest.fixture(scope="session")
def table_key() -> keys.PrivateKey:
    return generate()


@pytest.fixture(scope="session")
def reader_key() -> keys.PrivateKey:
    return generate(3072)


@pytest.fixture(scope="session")
def author_key() -> keys.PrivateKey:
    return generate()


@pytest.fixture(scope="session")
def spkis(table_key: keys.PrivateKey) -> dict[bytes, bytes]:
    return {keys.key_id(table_key): keys.spki(table_key)}


@pytest.fixture(scope="session")
def sealed(
    network: Network, table_key: keys.PrivateKey, reader_key: keys.PrivateKey, author_key: keys.PrivateKey
) -> bytes:
    recipients = [reader_key.public_key(), author_key.public_key()]
    return seal.seal(
        network, table_key, recipients, NOW, "text/plain", b"hello", expires=NOW + 60, author=author_key
    )
