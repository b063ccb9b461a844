"""Processes that are killed. The store's own tests kill it at every single point of its writes: `src/store/tests/crash.rs`."""

import shutil
import signal
import time
from pathlib import Path

import export
from lone import Lone, Running, end, held_by, lost_by
from nodes import Failed, p2pdb
from world import World, network_file


def put(world: World) -> Path:
    row, lone = world.row("kill -9 while entries are put"), Lone(world.place("put"))
    try:
        lone.node.start()
        lone.user.put(10, lone.node)
        lone.node.end(signal.SIGTERM)
        p2pdb(lone.node.home, "export", lone.node.home.parent / "old.export")
        for _ in range(world.trials(4)):
            row.trials += 1
            lone.node.start()
            had = len(lone.user.ids())
            lone.put_beside(400)
            lone.acknowledged(had + world.random.randrange(1, 300))
            time.sleep(world.random.random() / 50)
            lone.node.end(signal.SIGKILL)
            row.lost += lost_by(lone.node, lone.user)
            lone.node.start()
            ended = lone.put_ends()
            if ended.status != 0:
                raise Failed(f"the client does not get over it: {ended.said()}")
            # And killed again while it does what it does on a clean end.
            lone.node.process.send_signal(signal.SIGTERM)
            time.sleep(world.random.random() / 20)
            lone.node.end(signal.SIGKILL)
        end(world, row, "verify clean, the client went on", lone)
    finally:
        lone.close()
    return lone.node.home


class Landing:
    """Counts the trials that were killed in the middle; there are more of them until enough were."""

    def __init__(self, world: World, few: int):
        self.least, self.most, self.trials, self.hits = world.trials(few), 5 * world.trials(few), 0, 0

    def __iter__(self):
        while self.trials < self.least or (self.hits < self.least / 2 and self.trials < self.most):
            self.trials += 1
            yield self.trials
        if self.hits < self.least / 2:
            raise Failed(f"only {self.hits} of {self.trials} trials were killed in the middle")


def written(log: Path) -> int:
    """Bytes in all segments of a log."""
    return sum(segment.stat().st_size for segment in log.glob("*.seg"))


def imported(world: World, file: Path, everything: set[bytes]):
    """`import`, killed when a part of the log was written."""
    row, place = world.row("kill -9 while a file is imported"), world.place("import")
    network, landing, length, kept = network_file(place, "network"), Landing(world, 4), file.stat().st_size, 0
    for row.trials in landing:
        home = place / str(row.trials)
        p2pdb(home, "init", "--network", network)
        part = world.random.uniform(0, 0.9) * length
        running = Running(home, "import", file, row=row)
        running.until(lambda home=home, part=part: written(home / "store" / "store.redb.log") > part)
        status = running.kill().status
        held = held_by(home) if (home / "store" / "store.redb").exists() else set()
        if not held <= everything:
            raise Failed("an import made entries up")
        if status == 0 and held != everything:
            raise Failed(f"an import says that it is done, and {len(held)} of {len(everything)} entries are there")
        landing.hits += 0 < len(held) < len(everything)
        kept += len(held)
        p2pdb(home, "import", file)
        row.lost += len(everything - held_by(home))
    end(
        world,
        row,
        f"verify clean, {landing.hits} with a part, {kept // row.trials} of {len(everything)} on average, the rest at the second try",
    )


class Backup:
    """A backup of a part of a store, which exports of everything take the place of."""

    def __init__(self, at: Path, old: Path, everything: set[bytes]):
        self.at, self.part, self.old, self.everything = at, at.with_name(f"{at.name}.part"), old, everything
        self.before = export.ids(old)
        if not self.before < everything:
            raise Failed("the old backup is not of a part")

    def restore(self):
        """It is the old one again, and nothing is left of a trial before."""
        shutil.copy(self.old, self.at)
        self.part.unlink(missing_ok=True)

    def is_written(self, least: float) -> bool:
        """So much of the next one, and a little more."""
        try:
            return self.part.stat().st_size > least
        except FileNotFoundError:
            return False

    def is_whole(self, done: bool):
        """The new one if its export said that it was done, and else the old one or the new one."""
        held = export.ids(self.at)
        if held != self.everything and (done or held != self.before):
            missing, more = len(self.everything - held), len(held - self.everything)
            raise Failed(f"of {len(self.everything)} entries a backup lacks {missing}, and has {more} others; done: {done}")

    def replaces_what_is_left_over(self, home: Path):
        """What an export has left over is in nobody's way."""
        self.restore()
        self.part.write_bytes(b"left over")
        p2pdb(home, "export", self.at, "--force")
        self.is_whole(True)
        self.has_no_part()

    def has_no_part(self):
        if self.part.exists():
            raise Failed("an export leaves a part of it behind")


def exported(world: World, full: Path, file: Path, everything: set[bytes]):
    """`export`, killed when a part of the file was written."""
    row, place = world.row("kill -9 while the store is exported"), world.place("export")
    backup, landing = Backup(place / "backup", full.parent / "old.export", everything), Landing(world, 4)
    for row.trials in landing:
        least = world.random.uniform(0, 0.9) * file.stat().st_size
        backup.restore()
        running = Running(full, "export", backup.at, "--force", row=row)
        running.until(lambda least=least: backup.is_written(least))
        status = running.kill().status
        landing.hits += backup.part.exists()
        backup.is_whole(status == 0)
        row.lost += len(everything - held_by(full))
    backup.replaces_what_is_left_over(full)
    end(world, row, f"the last backup is whole, verify clean, {landing.hits} with a part left over")


def run(world: World):
    full = put(world)
    file = full.parent / "all.export"
    p2pdb(full, "export", file)
    everything = export.ids(file)
    imported(world, file, everything)
    exported(world, full, file, everything)


ROWS = {"kills": run}
