"""Disks of running nodes that fail. Each says why and how to go on, serves what it has, and goes on once it can."""

import json
import signal

from hosts import do
from lone import SETTINGS, Lone, end, fails, held_by, lost_by, says, stop, stopped, verified
from mounts import Journaled, Mounted, Small
from nodes import Failed
from world import Row, World

FULL = ("no space is left for", "free some, or lower max_disk")
EVICTION = "what must give way to new entries could not be dropped, and is tried again"
# What was under way when it turned read-only is said to have failed, and no more.
READ_ONLY = (("Read-only file system", "Input/output error"), "see that its disk is there, sound and not read-only")


def full(world: World):
    """The disk of a running node fills up, and is given more room."""
    row, place = world.row("disk full while entries are put"), world.place("full")
    with Small(place / "disk", 12 << 20) as disk, Lone(place, disk.at) as lone:
        lone.node.start()
        for size in (14, 16):
            row.trials += 1
            lone.new_log()
            lone.put_beside(160, 100_000)
            lone.put_fails()
            says(line_of(lone.new_log(), "the store failed"), *FULL)
            lone.serves(len(lone.user.ids()))
            disk.resize(size << 20)
            # It goes on without being started anew.
            lone.user.put(3, lone.node)
        # The first merge of all, which needs room for it.
        disk.fill()
        ends_unmerged(lone, FULL)
        disk.free()
        disk.resize(64 << 20)
        end(world, row, "refused with a reason, served on, goes on once there is room", lone)


def line_of(log: str, what: str) -> str:
    """The line of a log that says it; what it leaves out may stand in others."""
    says(log, what)
    return next(line for line in log.splitlines() if what in line)


def ends_unmerged(lone: Lone, reason: tuple[str, ...]):
    """A node that cannot merge when it stops says so, and that it is made up for."""
    lone.new_log()
    status = lone.node.end(signal.SIGTERM)
    log = lone.new_log()
    says(line_of(log, "the log is merged at the next opening"), *reason)
    if status < 0 or "panicked" in log:
        raise Failed(f"it ends with {status}: {log}")


class Limited(Lone):
    """A store at its limit, which merges and evicts with every put. Its log has a disk of its own: else that would fail first,
    and there would be nothing new to merge or to evict for."""

    LENGTH = 40_000

    def __init__(self, disk: Mounted, log_disk: Small):
        place = disk.at.parent
        super().__init__(place, disk.at, SETTINGS + '[limits]\nmax_disk = "32 MiB"\n')
        self.log_disk = log_disk
        self.log = self.node.home / "store" / "store.redb.log"
        self.log.mkdir(parents=True)
        self.bind()
        # What clients were told: of how many entries that they were dropped at once, and that the store failed.
        self.refused = {"dropped": 0, "store_failed": 0}
        # Small entries, of more effort per byte than all others: nothing may evict them.
        self.precious: set[bytes] = set()

    def bind(self):
        do("mount", "--bind", str(self.log_disk.at), str(self.log))

    def unbind(self):
        do("umount", str(self.log))

    def put(self, count: int) -> bool:
        """Whether the store took them all, be it that some gave way at once."""
        self.put_beside(count, self.LENGTH)
        ended = self.put_ends()
        refused = json.loads(ended.out)["refused"] if ended.status >= 0 else None
        if refused is None or not refused.keys() <= self.refused.keys():
            raise Failed(f"exit {ended.status}: {ended.said()}")
        for name, number in refused.items():
            self.refused[name] += number
        return "store_failed" not in refused

    def start(self):
        self.node.start()
        self.user.put(10, self.node)
        self.precious = self.user.ids()

    def fill(self):
        """Puts until something has to go for it."""
        for _ in range(20):
            if not self.put(100):
                raise Failed(f"the store fails: {self.new_log()}")
            if self.node.status()["dropped"] > 50:
                return
        raise Failed("nothing is evicted")

    def fails(self, reason: tuple[str, ...]) -> bool:
        """Puts until nothing can be evicted any longer, and then some more; whether the node came to refuse them."""
        self.new_log()
        log, taken = "", 0
        while EVICTION not in log:
            # Many at once: a few may go on for ever in the pages of those that give way to them.
            if not self.put(25):
                raise Failed(f"what the log has room for is refused: {log + self.new_log()}")
            if taken > 50:
                raise Failed(f"there is room for everything: {log}")
            taken += 1
            log += self.new_log()
        # What is durable is taken until it has to be merged. On a full disk that may succeed at times: it has free pages.
        refuses = any(not self.put(5) for _ in range(10))
        log += self.new_log()
        for what in [EVICTION, "the store failed"] if refuses else [EVICTION]:
            says(line_of(log, what), *reason)
        return refuses

    def count(self, row: Row):
        """Lost is what was acknowledged, and neither is there nor was dropped; and whatever nothing may evict."""
        report, held = verified(self.node.home), held_by(self.node.home)
        missing = len(self.user.ids() - held)
        # Those of which clients were told that the store failed may have been stored, and dropped later.
        print(f"{report['entries']} entries, {report['dropped']} dropped; {missing} not there; refused: {self.refused}")
        not_there = missing + self.refused["dropped"]
        row.lost += max(len(self.precious - held), not_there - report["dropped"], 0)
        if report["dropped"] > not_there + self.refused["store_failed"]:
            raise Failed("the node counts more as dropped than was put and is not there")
        row.peak = max(row.peak, self.node.memory())

    def close(self):
        super().close()
        do("umount", "-l", str(self.log))


def evicting(world: World):
    row, place = world.row("disk full while entries are merged and evicted"), world.place("evicting")
    for _ in range(world.trials(2)):
        row.trials += 1
        at = place / str(row.trials)
        at.mkdir()
        with Small(at / "disk", 40 << 20) as disk, Small(at / "log", 64 << 20) as log_disk, Limited(disk, log_disk) as lone:
            lone.start()
            lone.fill()
            disk.fill()
            lone.fails(FULL)
            lone.serves(1)
            disk.free()
            # It goes on without being started anew.
            if not lone.put(5):
                raise Failed(f"it does not go on: {lone.new_log()}")
            lone.node.end(signal.SIGTERM)
            lone.count(row)
    end(world, row, "said so, served on, goes on once there is room")


def evicting_read_only(world: World):
    row, place = world.row("disk read-only while entries are merged and evicted"), world.place("stuck-evicting")
    with Journaled(place) as disk, Small(place / "log-disk", 64 << 20) as log_disk, Limited(disk, log_disk) as lone:
        lone.start()
        for _ in range(world.trials(1)):
            row.trials += 1
            lone.fill()
            with stopped(lone.node.process):
                disk.sync()
                disk.fail()
            if not lone.fails(READ_ONLY):
                raise Failed("it takes more than it can merge")
            lone.serves(1)
            ends_unmerged(lone, READ_ONLY)
            lone.unbind()
            disk.mend()
            lone.bind()
            lone.node.start()
            if not lone.put(5):
                raise Failed(f"it does not go on: {lone.new_log()}")
        lone.node.end(signal.SIGTERM)
        lone.count(row)
        end(world, row, "said so, served on, goes on once it can be written")


def power(world: World):
    """The disk of a running node is gone from one moment to the next, with all that was not on it."""
    row, place = world.row("power failure: what was not synced is gone"), world.place("power")
    with Journaled(place) as disk, Lone(place, disk.at) as lone:
        for _ in range(world.trials(3)):
            row.trials += 1
            lone.node.start()
            had = len(lone.user.ids())
            # What was set up is on the disk, as that of any node that has run for a while.
            disk.sync()
            lone.put_beside(400)
            lone.acknowledged(had + world.random.randrange(1, 300))
            stop(lone.node.process)
            # Nobody has synced it, so it has to be gone as well.
            canary = disk.at / f"canary-{row.trials}"
            canary.write_text("not synced")
            disk.lose_power()
            lone.node.end(signal.SIGKILL)
            lone.putting.kill()
            lone.putting = None
            disk.mend()
            if canary.exists() and canary.read_text():
                raise Failed("the power did not fail: what was not synced is there")
            row.lost += lost_by(lone.node, lone.user)
        end(world, row, "verify clean", lone)


def read_only(world: World):
    """The kernel makes the disk of a running node read-only, as it does after an error."""
    row, place = world.row("disk turns read-only while entries are put"), world.place("stuck")
    with Journaled(place) as disk, Lone(place, disk.at) as lone:
        lone.node.start()
        lone.user.put(10, lone.node)
        for _ in range(world.trials(1)):
            row.trials += 1
            disk.sync()
            lone.new_log()
            had = len(lone.user.ids())
            # Seconds more than it takes to see that so many are acknowledged.
            lone.put_beside(4000)
            lone.acknowledged(had + world.random.randrange(10, 300))
            with stopped(lone.node.process):
                disk.fail()
            lone.put_fails()
            says(line_of(lone.new_log(), "the store failed"), *READ_ONLY)
            lone.serves(len(lone.user.ids()))
            ends_unmerged(lone, READ_ONLY)
            says(fails(lone.node.home, "run"), *READ_ONLY)
            disk.mend()
            lone.node.start()
            lone.user.put(10, lone.node)
        lone.node.end(signal.SIGTERM)
        end(world, row, "refused with a reason, served on, goes on once it can be written", lone)


ROWS = {
    "disk-full": full,
    "disk-full-evicting": evicting,
    "disk-read-only": read_only,
    "disk-read-only-evicting": evicting_read_only,
    "disk-power": power,
}
