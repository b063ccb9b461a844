"""What the rows of the table have in common: a network, its nodes and users, and what became of a trial."""

import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import export
from checks import Checks
from nodes import SETTINGS, Failed, Node, p2pdb, wait_for

NETWORK = """\
name = "p2pdb-faults"
bucket_bits = 8
work_price = 64
work_base_bytes = 2048
work_puzzles = 4
max_entry_bytes = 262144
max_clock_ahead = 600
epoch_seconds = 604800
bootstrap = [{}]
"""
# Seconds after which something that should happen has not.
PATIENCE = 90


@dataclass
class Row:
    """A line of the table."""

    fault: str
    trials: int = 0
    outcome: str = ""
    lost: int = 0
    peak: int = 0
    slowdown: float | None = None


@dataclass
class World:
    """A place to work in, and what was found out so far."""

    directory: Path
    seed: int
    long: bool
    checks: Checks = field(default_factory=Checks)
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)

    def trials(self, few: int) -> int:
        return few * 10 if self.long else few

    def row(self, fault: str) -> Row:
        print(f"\n== {fault}", flush=True)
        self.rows.append(Row(fault))
        return self.rows[-1]

    def place(self, name: str) -> Path:
        place = self.directory / name
        place.mkdir()
        return place

    def table(self):
        print(f"\n{'fault':52}{'trials':>7}{'lost':>6}{'MiB':>6}{'slower':>8}  outcome")
        for row in self.rows:
            slower = f"{row.slowdown:.1f}x" if row.slowdown is not None else ""
            peak = f"{row.peak / (1 << 20):.0f}" if row.peak else ""
            print(f"{row.fault:52}{row.trials:>7}{row.lost:>6}{peak:>6}{slower:>8}  {row.outcome}")


def network_file(place: Path, name: str, bootstrap: Iterable[str] = ()) -> Path:
    file = place / f"{name}.toml"
    file.write_text(NETWORK.format(", ".join(f'"{address}"' for address in bootstrap)))
    return file


class User:
    """A home with a table and a reader, and what was acknowledged to it."""

    def __init__(self, place: Path, network: Path):
        self.home, self.acknowledged = place / "user", place / "acknowledged"
        p2pdb(self.home, "init", "--network", network)
        self.table = p2pdb(self.home, "table", "new", "faults", "--bits", "2048")["id"]
        p2pdb(self.home, "key", "new", "reader", "--bits", "2048")
        self.put_so_far = 0

    def records(self, count: int, length: int = 200) -> Path:
        """A file of records that were never put before."""
        first, self.put_so_far = self.put_so_far, self.put_so_far + count
        file = self.home / "records"
        texts = (f"record {number}: {os.urandom(length // 2).hex()}" for number in range(first, first + count))
        file.write_text("\n\n".join(texts) + "\n")
        return file

    def put_arguments(self, source: str | Path, through: Node) -> list[str | Path]:
        to = ["--table", "faults", "--to", "reader", "--type", "text/plain", "--peer", through.address]
        return ["put", "--records", source, "--acknowledged", self.acknowledged, *to]

    def last(self) -> str:
        """The id of the entry that was acknowledged last."""
        return self.acknowledged.read_text().split()[-1]

    def put(self, count: int, through: Node, length: int = 200, inside: Sequence[str] | None = None):
        """Puts new records, from the host of the node or from another one."""
        arguments = self.put_arguments(self.records(count, length), through)
        summary = p2pdb(self.home, *arguments, inside=through.inside if inside is None else inside)
        if summary["stored"] + summary["known"] != count:
            raise Failed(f"of {count} records not all are stored: {summary}")

    def ids(self) -> set[bytes]:
        """The ids of everything that was acknowledged."""
        return export.acknowledged(self.acknowledged)


def entries(node: Node) -> int:
    return node.status()["entries"]


def converge(nodes: Iterable[Node], table: str, count: int, patience: float = PATIENCE) -> float:
    """Waits until the nodes hold so many entries, and makes sure that they are the same; the seconds until they do."""
    nodes = list(nodes)
    began = time.monotonic()
    for node in nodes:
        left = patience - (time.monotonic() - began)
        wait_for(f"node {node.name} holds {count} entries", lambda n=node: entries(n) >= count, max(1.0, left), 0.1)
    took = time.monotonic() - began
    equal(nodes, table, count)
    return took


def equal(nodes: list[Node], table: str, count: int):
    """The indexes of all nodes, bucket by bucket with their digests, are the same."""
    indexes = [node.index(table) for node in nodes]
    for node, index in zip(nodes, indexes, strict=True):
        if index != indexes[0]:
            raise Failed(f"the index of {node.name} is not that of {nodes[0].name}")
        held = sum(bucket["count"] for bucket in index)
        if held != count:
            raise Failed(f"node {node.name} holds {held} entries, expected {count}")


def met(nodes: Iterable[Node], others: int) -> Callable[[], bool]:
    return lambda: all(
        len([peer for peer in node.status()["swarm"]["peers"] if peer["serves"]]) >= others for node in nodes
    )


__all__ = ["PATIENCE", "SETTINGS", "Row", "User", "World", "converge", "entries", "equal", "met", "network_file"]
