import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import INTEROP, NOW, generate
from cryptography.hazmat.primitives import serialization

from p2pdb_spec import bucket, export, ids, keys
from p2pdb_spec.cbor_strict import encode
from p2pdb_spec.entry import Entry
from p2pdb_spec.network import Network


def public_pem(key: keys.PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def private_pem(key: keys.PrivateKey) -> str:
    forms = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *forms).decode()


def test_round_trip(sealed: bytes, network: Network, table_key: keys.PrivateKey) -> None:
    data = export.write([keys.spki(table_key)], [sealed])
    read = export.read(data, network)
    assert read == export.Export({keys.key_id(table_key): keys.spki(table_key)}, [sealed])
    assert export.write(read.keys.values(), read.entries) == data


def test_every_cut_is_seen(sealed: bytes, network: Network, table_key: keys.PrivateKey) -> None:
    data = export.write([keys.spki(table_key)], [sealed])
    for length in range(len(export.MAGIC), len(data)):
        read = export.read(data[:length], network)
        assert read.fault is not None and read.fault.name == "truncated"
        assert len(read.entries) == (length >= len(data) - len(encode([2, 1])))


def test_what_is_no_export(sealed: bytes, network: Network) -> None:
    cases = {
        b"": "not_an_export",
        b"p2pdb export v2\n": "not_an_export",
        export.MAGIC + encode([3, b""]): "malformed",
        export.MAGIC + b"\x98" + encode([2, 0]): "malformed",
        export.MAGIC + encode([2, 1]): "wrong_count",
        export.MAGIC + encode([2, 0]) + b"\x00": "malformed",
        export.MAGIC + encode([1, sealed, 0]): "malformed",
        export.MAGIC + encode([1, bytes(network.max_entry_bytes + 1)]): "too_large",
    }
    for data, expected in cases.items():
        fault = export.read(data, network).fault
        assert fault is not None and fault.name == expected


class Files:
    """A network, a card and keys in files, and the command line over them."""

    def __init__(
        self, folder: Path, network: Network, table: keys.PrivateKey, reader: keys.PrivateKey
    ) -> None:
        self.folder = folder
        lines = [f"{field.name} = {json.dumps(getattr(network, field.name))}" for field in fields(Network)]
        parameters = "\n".join([*lines, "bootstrap = []\n"])
        (folder / "network.toml").write_text(parameters)
        (folder / "card.toml").write_text(
            f'version = 1\nname = "test"\n[network]\n{parameters}\n[table]\n'
            f"public_key = '''{public_pem(table)}'''\nprivate_key = '''{private_pem(table)}'''\n"
        )
        (folder / "reader.pem").write_text(public_pem(reader))
        (folder / "reader-key.pem").write_text(private_pem(reader))

    def run(self, *arguments: str, data: bytes = b"") -> tuple[int, str]:
        command = [sys.executable, str(INTEROP / "interop.py"), *arguments]
        done = subprocess.run(command, cwd=self.folder, input=data, capture_output=True, check=False)
        return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.fixture
def files(tmp_path: Path, network: Network, table_key: keys.PrivateKey, reader_key: keys.PrivateKey) -> Files:
    return Files(tmp_path, network, table_key, reader_key)


def test_make_and_check(files: Files, network: Network, table_key: keys.PrivateKey) -> None:
    common = ("--network", "network.toml")
    code, made = files.run(
        "make", *common, "--card", "card.toml", "--recipient", "reader.pem", "--author", "reader-key.pem",
        "--count", "3", "--created", str(NOW), "--text", "note", "--out", "x.export",
    )  # fmt: skip
    assert code == 0, made
    code, checked = files.run("check", *common, "--recipient-key", "reader-key.pem", "x.export")
    assert code == 0, checked
    result = json.loads(checked)
    keep = ("id", "created", "text")
    assert [{key: row[key] for key in keep} for row in result["opened"]] == json.loads(made)
    assert result["opened"][2]["text"] == "note 2" and result["opened"][2]["author"].startswith("p2key1")
    raw = [ids.parse(ids.ENTRY, row["id"]) for row in json.loads(made)]
    rows = [[number, count, digest.hex()] for number, count, digest in bucket.index(raw, network.bucket_bits)]
    assert result["index"] == {ids.show(ids.TABLE, keys.key_id(table_key)): rows}
    code, shown = files.run("index", data=b"".join(raw))
    assert code == 0 and json.loads(shown) == rows


def test_check_complains(files: Files, sealed: bytes, network: Network, table_key: keys.PrivateKey) -> None:
    honest, spki = Entry.decode(sealed, network), keys.spki(table_key)
    forged = replace(honest, signature=bytes(256)).encode()
    for data, reasons, fault in [
        (export.write([], [sealed]), ["table_key_missing"], None),
        (export.write([spki], [sealed, forged]), ["signature_invalid"], None),
        (export.write([spki], [sealed])[:-1], [], "truncated"),
    ]:
        (files.folder / "x.export").write_bytes(data)
        code, shown = files.run("check", "--network", "network.toml", "x.export")
        result = json.loads(shown[: shown.rindex("}") + 1])
        assert code == 1
        assert [row["reason"] for row in result["refused"]] == reasons
        assert result["fault"] == fault


def test_make_refuses_a_card_that_does_not_fit(files: Files) -> None:
    card = files.folder / "card.toml"
    good = card.read_text()
    arguments = ("make", "--network", "network.toml", "--card", "card.toml", "--recipient", "reader.pem",
                 "--count", "1", "--out", "x.export")  # fmt: skip
    spoiled = {
        "another network": good.replace('"cheap"', '"other"'),
        "unknown keys: surplus": "surplus = 1\n" + good,
        "version": good.replace("version = 1", "version = 2"),
        "do not match": good[: good.index("private_key")]
        + f"private_key = '''{private_pem(generate())}'''\n",
        "no private key": good[: good.index("private_key")],
    }
    for complaint, text in spoiled.items():
        card.write_text(text)
        code, shown = files.run(*arguments)
        assert (code, complaint in shown) == (1, True), shown
