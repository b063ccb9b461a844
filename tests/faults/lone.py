"""What the rows about processes, disks and clocks have in common: a node and a user, commands, and what is left after a fault."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import export
from nodes import ENVIRONMENT, SETTINGS, Failed, Node, command, p2pdb, wait_for
from world import PATIENCE, Row, User, World, entries, network_file


def held_by(home: Path) -> set[bytes]:
    """The ids in a store that nobody has open, after `verify` has found nothing."""
    verified(home)
    file = home.parent / "held.export"
    p2pdb(home, "export", file, "--force")
    held = export.ids(file)
    file.unlink()
    return held


def verified(home: Path) -> dict:
    report = p2pdb(home, "verify")
    if not report["clean"]:
        raise Failed(f"verify of {home}: {report['problems']} problems: {report['spelled_out']}")
    return report


def lost_by(node: Node, user: User) -> int:
    """How many acknowledged entries a node does not hold that does not run."""
    return len(user.ids() - held_by(node.home))


def says(text: str, *words: str | tuple[str, ...]):
    """Makes sure that all of these were said; of several, one."""
    if missing := [word for word in words if not any(one in text for one in ([word] if isinstance(word, str) else word))]:
        raise Failed(f"nothing is said of {missing}: {text}")


def stop(process: subprocess.Popen):
    """Stops it, and waits until the kernel is done with what it asked for. If a disk fails while it is synced, the kernel may
    say that all went well, and drop what was written: of that no program could know."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@contextmanager
def stopped(process: subprocess.Popen) -> Iterator[None]:
    stop(process)
    yield
    os.kill(process.pid, signal.SIGCONT)


class Ended(NamedTuple):
    """A command that is over."""

    status: int
    out: str
    errors: str

    def said(self) -> str:
        return self.out + self.errors


class Running:
    """A command that runs while something happens."""

    def __init__(self, home: Path, *arguments: str | Path, row: Row | None = None):
        self.name, self.row = arguments[0], row
        self.process = subprocess.Popen(
            command(home, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def is_over(self) -> bool:
        # Neither waits for it nor takes what it used.
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def until(self, condition: Callable[[], object]):
        """Waits for the condition, or for the end of the command."""
        wait_for(f"{self.name} gets there", lambda: condition() or self.is_over(), PATIENCE, 0.0005)

    def sample(self):
        """Notes its greatest resident memory so far. What the kernel tells at its end counts this program in, which forked it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        # One that is just ending has none.
        if self.row and "VmHWM:" in status:
            self.row.peak = max(self.row.peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)

    def kill(self) -> "Ended":
        """As `ends`: it may have come before the kill."""
        self.sample()
        os.kill(self.process.pid, signal.SIGKILL)
        return self.ends()

    def ends(self) -> "Ended":
        # One that hangs has failed.
        hanging = threading.Timer(PATIENCE, os.kill, (self.process.pid, signal.SIGKILL))
        hanging.start()
        # It says little enough for a pipe.
        while not self.is_over():
            self.sample()
            time.sleep(0.002)
        hanging.cancel()
        out, errors = self.process.communicate()
        return Ended(self.process.returncode, out, errors)

    def fails(self, unless_it_works: bool = False) -> str:
        """All that it says, if it fails, by itself and not by a signal or a panic; nothing if it need not fail and does not."""
        ended = self.ends()
        if ended.status == 0 and unless_it_works:
            return ""
        if ended.status <= 0 or ended.status == 101 or "panicked" in ended.errors or not ended.said():
            raise Failed(f"p2pdb {self.name}: exit {ended.status}, expected a failure, and a reason: {ended.said()}")
        return ended.said()


def fails(home: Path, *arguments: str | Path, row: Row | None = None) -> str:
    """All that a command says that has to fail."""
    return Running(home, *arguments, row=row).fails()


class Lone:
    """A node, and a user who puts through it."""

    def __init__(self, place: Path, home: Path | None = None, settings: str = SETTINGS):
        network = network_file(place, "network")
        self.node = Node(home or place, "node", network, settings=settings)
        self.node.log_file = place / "node.log"
        self.user = User(place, network)
        self.putting: Running | None = None
        self.read_so_far = 0

    def new_log(self) -> str:
        """What the node has logged since somebody asked."""
        log = self.node.log_file.read_bytes()
        new, self.read_so_far = log[self.read_so_far :], len(log)
        return new.decode(errors="replace")

    def put_beside(self, count: int, length: int = 200):
        """Begins to put records and goes on."""
        records = self.user.records(count, length)
        self.putting = Running(self.user.home, *self.user.put_arguments(records, self.node))

    def put_ends(self) -> Ended:
        putting, self.putting = self.putting, None
        return putting.ends()

    def put_fails(self, reason: str = "store_failed"):
        """Waits for a put that the node refuses for this reason."""
        putting, self.putting = self.putting, None
        says(putting.fails(), reason)

    def acknowledged(self, count: int):
        wait_for(f"{count} entries are acknowledged", lambda: len(self.user.ids()) >= count, PATIENCE, 0.002)

    def serves(self, count: int):
        """The node serves so many entries or more, and the last one that was acknowledged."""
        if entries(self.node) < count:
            raise Failed(f"{entries(self.node)} entries are served, expected {count}")
        last = self.user.last()
        got = p2pdb(self.user.home, "get", "--table", "faults", "--id", last, "--peer", self.node.address)
        if [entry["id"] for entry in got["entries"]] != [last]:
            raise Failed(f"an entry that was acknowledged is not served: {json.dumps(got)[:500]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.node.process and self.node.process.poll() is None:
            self.node.process.kill()
            self.node.process.wait()
        if self.putting:
            self.putting.kill()


def end(world: World, row: Row, what: str, lone: Lone | None = None):
    """The last words on a row; the node of it does not run any more."""
    if lone:
        row.lost += lost_by(lone.node, lone.user)
        row.peak = lone.node.memory()
        what = f"{what}, {len(lone.user.ids())} entries"
    row.outcome = what
    world.checks.equal(row.lost, 0, f"{row.fault}: {what}, none lost")


__all__ = ["SETTINGS", "Lone", "Running", "end", "entries", "fails", "held_by", "lost_by", "says", "stop", "stopped", "verified"]
