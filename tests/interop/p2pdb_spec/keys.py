"""RSA keys of tables, recipients and authors (3), and what is done with them."""

from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .refusal import Refused

PrivateKey = rsa.RSAPrivateKey
PublicKey = rsa.RSAPublicKey

MAX_SPKI_BYTES = 550  # that of a modulus of 4096 bits
_HASH = hashes.SHA256()
_PSS = padding.PSS(padding.MGF1(_HASH), salt_length=32)
_OAEP = padding.OAEP(padding.MGF1(_HASH), _HASH, label=b"p2pdb content key v1")
_SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


def spki(key: PublicKey | PrivateKey) -> bytes:
    public = key.public_key() if isinstance(key, PrivateKey) else key
    return public.public_bytes(*_SPKI)


def key_id(key: PublicKey | PrivateKey) -> bytes:
    """TableId or RecipientId (3.2)."""
    return spki_id(spki(key))


def spki_id(der: bytes) -> bytes:
    return sha256(der).digest()


def public_key(der: bytes) -> PublicKey:
    """A public key that obeys 3.1, or refused as `table_key_invalid`."""
    try:
        key = serialization.load_der_public_key(der)
    except Exception as error:  # which ones is the library's secret: ValueError, UnsupportedAlgorithm, ...
        raise Refused("table_key_invalid", str(error)) from error
    if not isinstance(key, PublicKey):
        raise Refused("table_key_invalid", f"expected an RSA key, got {type(key).__name__}")
    _check_size(key)
    if spki(key) != der:
        raise Refused("table_key_invalid", "not the one DER encoding of this key")
    return key


def public_key_from_pem(pem: bytes) -> PublicKey:
    _expect_label(pem, b"PUBLIC KEY")
    loaded = serialization.load_pem_public_key(pem)
    if not isinstance(loaded, PublicKey):
        raise Refused("table_key_invalid", f"expected an RSA key, got {type(loaded).__name__}")
    _check_size(loaded)
    return loaded


def private_key_from_pem(pem: bytes) -> PrivateKey:
    _expect_label(pem, b"PRIVATE KEY")
    loaded = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(loaded, PrivateKey):
        raise Refused("table_key_invalid", f"expected an RSA key, got {type(loaded).__name__}")
    _check_size(loaded.public_key())
    return loaded


def sign(key: PrivateKey, message: bytes) -> bytes:
    return key.sign(message, _PSS, _HASH)


def verify(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, _PSS, _HASH)
    except InvalidSignature:
        return False
    return True


def wrap(key: PublicKey, content_key: bytes) -> bytes:
    return key.encrypt(content_key, _OAEP)


def unwrap(key: PrivateKey, wrapped: bytes) -> bytes:
    """Fails with ValueError."""
    return key.decrypt(wrapped, _OAEP)


def _check_size(key: PublicKey) -> None:
    exponent = key.public_numbers().e
    if not 2048 <= key.key_size <= 4096 or key.key_size % 8 or exponent != 65537:
        raise Refused("table_key_invalid", f"modulus of {key.key_size} bits, exponent {exponent}")


def _expect_label(pem: bytes, label: bytes) -> None:
    if not pem.lstrip().startswith(b"-----BEGIN " + label + b"-----"):
        raise Refused("table_key_invalid", f"expected PEM of a {label.decode()}")
