"""The whole story: see `run`."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import export
import records
from checks import Checks
from nodes import ENVIRONMENT, Failed, Node, command, p2pdb, wait_for

RECORDS = int(os.environ.get("RECORDS", "5000"))
# The whole script gives up after this time.
DEADLINE = 240 + RECORDS / 10

NETWORK = """\
name = "p2pdb-packages"
bucket_bits = 12
work_price = 4096
work_base_bytes = 2048
work_puzzles = 8
max_entry_bytes = 262144
max_clock_ahead = 600
epoch_seconds = 604800
bootstrap = [{}]
"""


class Story:
    def __init__(self, directory: Path):
        self.directory, self.checks, self.rows = directory, Checks(), []
        self.nodes: dict[str, Node] = {}
        self.putting: subprocess.Popen | None = None
        self.acknowledged = directory / "acknowledged"

    def row(self, what: str, entries: int, size: int, seconds: float):
        self.rows.append((what, entries, size, seconds))

    # Setting up

    def prepare(self):
        self.records, source = records.collect(RECORDS)
        self.size = sum(map(len, self.records))
        print(f"{len(self.records)} records of {source}, {self.size} bytes", flush=True)
        alone, network = self.directory / "alone.toml", self.directory / "network.toml"
        alone.write_text(NETWORK.format(""))
        self.nodes["A"] = Node(self.directory, "A", alone)
        # Whoever comes later knows A and nobody else.
        network.write_text(NETWORK.format(f'"{self.nodes["A"].address}"'))
        for name in "BCD":
            self.nodes[name] = Node(self.directory, name, network)
        self.home = self.directory / "user"
        p2pdb(self.home, "init", "--network", network)
        self.table = p2pdb(self.home, "table", "new", "packages", "--bits", "2048")["id"]
        p2pdb(self.home, "key", "new", "reader", "--bits", "2048")

    def start(self):
        for name in "ABC":
            self.nodes[name].start()
        for name in "ABC":
            wait_for(f"node {name} meets the two others", lambda n=name: self.meets(n, "ABC"), 30)
        self.checks.check(True, "three processes meet through one address")

    def meets(self, name: str, names: str) -> bool:
        peers = [peer for peer in self.nodes[name].status()["swarm"]["peers"] if peer["serves"]]
        return len(peers) == len(names) - 1

    def put(self, source: str | Path) -> subprocess.Popen:
        """A client that puts records through node A."""
        arguments = ["put", "--records", source, "--acknowledged", self.acknowledged, "--table", "packages"]
        reach = ["--to", "reader", "--type", "text/x-debian-package", "--peer", self.nodes["A"].address]
        self.putting = subprocess.Popen(
            command(self.home, *arguments, *reach),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        return self.putting

    def put_done(self, expected: int, what: str):
        """Waits for the client, and checks what it says."""
        output, errors = self.putting.communicate(timeout=self.left())
        status, self.putting = self.putting.returncode, None
        self.checks.equal(status, 0, f"{what}: the client ends with 0{'' if status == 0 else ': ' + errors.decode()}")
        if status == 0:
            summary = json.loads(output)
            self.checks.equal(summary["stored"] + summary["known"], expected, f"{what}: all records are stored")
            self.checks.equal(summary["refused"], {}, f"{what}: nothing is refused")
            return summary
        raise Failed("nothing more can be put")

    def left(self) -> float:
        return max(1.0, self.deadline - time.monotonic())

    # What is shown

    def first_part(self, part: list[bytes]):
        file = self.directory / "records"
        file.write_bytes(b"\n\n".join(part) + b"\n")
        began = time.monotonic()
        self.put(file)
        summary = self.put_done(len(part), "first import, from a file")
        self.row("put to A, with B and C up", len(part), summary["entry_bytes"], summary["seconds"])
        self.arrived("ABC", len(part))
        self.row("held by A, B and C", len(part), summary["entry_bytes"], time.monotonic() - began)
        self.equal_indexes("ABC")

    def second_part(self, done: int, part: list[bytes]):
        """Node C is away, and node A is killed in the middle."""
        self.checks.equal(self.nodes["C"].end(signal.SIGTERM), 0, "node C ends with 0 on SIGTERM")
        killed = threading.Event()
        putting = self.put("-")
        feeder = threading.Thread(target=feed, args=(putting.stdin, part, killed), daemon=True)
        putting.stdin = None
        feeder.start()
        wait_for(
            "a third of the records is acknowledged",
            lambda: len(export.acknowledged(self.acknowledged)) >= done + len(part) / 3,
            self.left(),
            pause=0.005,
        )
        self.checks.equal(self.nodes["A"].end(signal.SIGKILL), -signal.SIGKILL, "node A is killed with SIGKILL")
        acknowledged = export.acknowledged(self.acknowledged)
        killed.set()
        count = len(acknowledged)
        self.checks.check(done < count < done + len(part), f"... in the middle: {count} of {done + len(part)} acknowledged")
        # Before it runs again and others could give it what it lost.
        self.verify("A", "after SIGKILL")
        held = self.held("A")
        lost = acknowledged - held
        self.checks.check(not lost, f"node A holds every one of {count} acknowledged entries ({len(lost)} lost)")
        opened = self.nodes["A"].start()
        self.row("A runs again after SIGKILL", len(held), 0, opened)
        summary = self.put_done(len(part), "second import, from a pipe, over the kill")
        feeder.join()
        self.checks.check(summary["retries"] > 0, f"... the client asked again {summary['retries']} times")
        self.row("put to A, over its restart", len(part), summary["entry_bytes"], summary["seconds"])
        self.arrived("AB", RECORDS)

    def late(self, name: str, entries: int, what: str):
        began = time.monotonic()
        self.nodes[name].start()
        status = self.arrived(name, RECORDS)
        seconds = time.monotonic() - began
        fetched = status["sync"]["fetched"]
        # Rounds that are still under way are not counted yet.
        self.checks.check(fetched > 0, f"{what}: it lacked {entries}, and reconciliation fetched {fetched} so far")
        self.row(what, entries, status["sync"]["received_bytes"], seconds)

    def arrived(self, names: str, entries: int) -> dict:
        """Waits until nodes hold so many entries."""
        for name in names:
            status = wait_for(
                f"node {name} holds {entries} entries",
                lambda n=name: status if (status := self.nodes[n].status())["entries"] >= entries else None,
                self.left(),
            )
            self.checks.equal(status["entries"], entries, f"node {name} holds {entries} entries")
        return status

    def equal_indexes(self, names: str):
        indexes = {name: self.nodes[name].index(self.table) for name in names}
        first = indexes[names[0]]
        count = sum(bucket["count"] for bucket in first)
        for name in names[1:]:
            self.checks.check(indexes[name] == first, f"index of {name} is that of {names[0]}: {count} entries in {len(first)} buckets")

    def read(self):
        """A reader gets and opens everything from the node that came last."""
        self.nodes["D"].status()
        began = time.monotonic()
        got = p2pdb(
            self.home, "get", "--table", "packages", "--mine", "--limit", RECORDS, "--peer", self.nodes["D"].address
        )
        entries = got["entries"]
        self.row("read and opened from D", len(entries), sum(entry["bytes"] for entry in entries), time.monotonic() - began)
        texts = sorted(entry.get("text", "").encode() for entry in entries)
        self.checks.check(texts == sorted(self.records), f"the reader opens {len(texts)} entries: the very records")

    def verify(self, name: str, when: str):
        report = p2pdb(self.nodes[name].home, "verify")
        self.checks.check(report["clean"], f"verify of {name} {when}: {report['entries']} entries, {report['problems']} problems")

    def held(self, name: str) -> set[bytes]:
        """The ids in the store of a node that does not run."""
        file = self.directory / f"{name}.export"
        p2pdb(self.nodes[name].home, "export", file, "--force")
        return export.ids(file)

    def end(self):
        expected = export.acknowledged(self.acknowledged)
        self.checks.equal(len(expected), RECORDS, "as many ids are acknowledged as records were put")
        for name, node in self.nodes.items():
            self.checks.equal(node.end(signal.SIGTERM), 0, f"node {name} ends with 0 on SIGTERM")
            self.verify(name, "at the end")
            self.checks.check(self.held(name) == expected, f"node {name} holds exactly the acknowledged ids")

    def tell(self):
        self.deadline = time.monotonic() + DEADLINE
        self.prepare()
        third = RECORDS // 3
        self.start()
        self.first_part(self.records[:third])
        self.second_part(third, self.records[third:])
        self.late("C", RECORDS - third, "C catches up after SIGTERM")
        self.late("D", RECORDS, "D joins late")
        self.equal_indexes("ABCD")
        self.read()
        self.end()

    def stop(self):
        """Ends what still runs."""
        running = [node.process for node in self.nodes.values() if node.process] + [self.putting]
        for process in filter(None, running):
            process.kill()
            process.wait()


def feed(to, part: list[bytes], killed: threading.Event):
    """Writes records to the client; the last tenth waits, so that the kill comes in the middle however few there are."""
    last = len(part) - len(part) // 10 - 1
    try:
        to.write(b"".join(record + b"\n\n" for record in part[:last]))
        to.flush()
        killed.wait()
        to.write(b"".join(record + b"\n\n" for record in part[last:]))
        to.close()
    except BrokenPipeError:
        # The client says itself why it ended.
        pass


def table(rows: list[tuple[str, int, int, float]]):
    print(f"\n{'':32}{'entries':>9}{'KiB':>9}{'seconds':>9}{'entries/s':>11}{'KiB/s':>9}")
    for what, entries, size, seconds in rows:
        rates = f"{entries / seconds:>11.0f}{size / 1024 / seconds:>9.0f}" if size else ""
        print(f"{what:32}{entries:>9}{size // 1024 if size else '':>9}{seconds:>9.2f}{rates}")


def main() -> int:
    assert RECORDS >= 30, "too few records to stop and kill anything meanwhile"
    with tempfile.TemporaryDirectory(prefix="p2pdb-packages-") as directory:
        story = Story(Path(directory))
        try:
            story.tell()
        except (Failed, AssertionError, subprocess.TimeoutExpired) as error:
            story.checks.check(False, str(error))
            for node in story.nodes.values():
                if log := (node.home / "log").exists() and node.log():
                    print(f"-- log of {node.name}\n{log}")
        finally:
            story.stop()
    table(story.rows)
    print(f"\n{story.checks.passed} passed, {story.checks.failed} failed")
    return min(1, story.checks.failed)


if __name__ == "__main__":
    # A signal ends the nodes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
