#!/usr/bin/env python3
"""Seals an entry as the text of SPEC.md says, independently of the Rust code, and writes the files beside it.

Needs the package `cryptography`. The files hold fresh keys after every run; the Rust test reads whatever they hold.
"""
import hashlib, os, pathlib
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PRICE, BASE, PUZZLES = 300, 100, 3  # the parameters of the network in known.rs


def head(major, n):
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 1 << (8 * size):
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")


def cbor(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(4, len(value)) + b"".join(map(cbor, value))


def sha256(data):
    return hashlib.sha256(data).digest()


def spki(key):
    return key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def sign(key, message):
    return key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def padded_length(length):
    if length <= 256:
        return 256
    e = length.bit_length() - 1
    mask = 2 ** (e - e.bit_length()) - 1
    return (length + mask) // (mask + 1) * (mask + 1)


table, reader, other, author = (rsa.generate_private_key(65537, bits) for bits in (2048, 2048, 2056, 2048))
table_id, created, expires = sha256(spki(table)), 1_700_000_000, 1_700_003_600
media_type, data = "text/plain; charset=utf-8", "Grüße aus einer anderen Implementierung. ".encode() * 20
readers = sorted((sha256(spki(key)), key) for key in (reader, other))
signed = cbor([table_id, created, [rid for rid, _ in readers], media_type, data])
author_signature = sign(author, b"p2pdb author v1" + sha256(signed))
content = cbor([media_type, data, [spki(author), author_signature]]) + b"\x80"
plaintext = content.ljust(padded_length(len(content)), b"\0")

key = os.urandom(32)
body = ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, b"p2pdb body v1" + table_id)
oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"p2pdb content key v1")
recipients = [[rid, reader_key.public_key().encrypt(key, oaep)] for rid, reader_key in readers]
header = cbor([1, table_id, created, expires, recipients, sha256(body), len(body)])
entry_id = hashlib.md5(body).digest()[:2] + sha256(b"p2pdb entry v1" + header)[:30]

price = PRICE * max(len(header) + len(body), BASE) // BASE
target = (2**64 - 1) // max(1, -(-price // PUZZLES))
seed, work = sha256(b"p2pdb work v1" + entry_id), b""
for index in range(PUZZLES):
    prefix, nonce = seed + index.to_bytes(4, "big"), 0
    while int.from_bytes(sha256(prefix + nonce.to_bytes(8, "big"))[:8], "big") > target:
        nonce += 1
    work += nonce.to_bytes(8, "big")
entry = cbor([header, body, sign(table, b"p2pdb signature v1" + entry_id), work])

here = pathlib.Path(__file__).parent
pem = ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()
here.joinpath("reader.pem").write_bytes(reader.private_bytes(*pem))
for name, owner in (("table", table), ("author", author)):
    public = owner.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    here.joinpath(name + ".pem").write_bytes(public)
here.joinpath("entry.hex").write_text(entry.hex() + "\n")
