"""The check of the vectors notices what differs; `interop.py vectors` is what checks the vectors."""

import shutil
from pathlib import Path

import pytest
from conftest import INTEROP

from vectors import check_all

VECTORS = INTEROP.parent.parent / "protocol" / "vectors"
GOOD = sorted({path.parent: path for path in sorted(VECTORS.glob("*/ok*.txt"))}.values())
"""One of each area."""
INPUTS = ["network", "keys"]


def copy(root: Path, path: Path) -> Path:
    for area in INPUTS:
        shutil.copytree(VECTORS / area, root / area, ignore=shutil.ignore_patterns("*.txt"))
    (root / path.parent.name).mkdir(exist_ok=True)
    return Path(shutil.copy(path, root / path.parent.name))


@pytest.mark.parametrize("good", GOOD, ids=lambda path: path.parent.name)
def test_a_changed_vector_fails(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = copy(tmp_path, good)
    text = vector.read_text()
    assert check_all(tmp_path) == 0
    assert capsys.readouterr().out.endswith("\n1 passed, 0 failed\n")
    head, _, body = text.partition("\n\n")
    lines = head.splitlines()
    result = lines[-1]
    spoiled = {
        "another outcome": text.replace("expect: ok", "expect: malformed"),
        "another result": text.replace(result, result[:-1] + ("1" if result[-1] != "1" else "2")),
        "a result too many": head + "\nsurplus: 1\n\n" + body,
        "a result too few": "\n".join(line for line in lines if line != result) + "\n\n" + body,
    }
    for what, changed in spoiled.items():
        vector.write_text(changed)
        assert check_all(tmp_path) == 1, what
        assert good.name in capsys.readouterr().err


def test_nothing_to_check_and_unknown_areas_fail(tmp_path: Path) -> None:
    assert check_all(tmp_path) == 1
    copy(tmp_path, GOOD[0])
    assert check_all(tmp_path) == 0
    (tmp_path / "unheard-of").mkdir()
    shutil.copy(GOOD[0], tmp_path / "unheard-of")
    assert check_all(tmp_path) == 1
