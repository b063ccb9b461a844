"""Commands that write much, on disks that fail: import, export and the migration of a store. Each ends with a reason and advice,
spoils nothing, and does it all once it can."""

import shutil
import signal
from pathlib import Path
from typing import ClassVar

import export
from disks import FULL, READ_ONLY
from kills import Backup, Landing, written
from lone import Lone, Running, end, fails, held_by, says, stopped, verified
from mounts import Image, Journaled, Small
from nodes import Failed, p2pdb
from world import Row, World, network_file

# Of the store with the first schema version.
STORE_TEST = """\
name = "store-test"
bucket_bits = 3
work_price = 1
work_base_bytes = 1048576
work_puzzles = 1
max_entry_bytes = 262144
max_clock_ahead = 600
epoch_seconds = 86400
bootstrap = []
"""
OLDEST, ITS_ENTRIES = Path("src/store/tests/v1.redb"), 11


class Large:
    """A home with a store of some MiB, the export of it, and an older one of a part of it."""

    made: ClassVar["Large | None"] = None

    def __init__(self, world: World, count: int = 100, length: int = 40_000):
        place = world.place("large")
        self.old, self.file, self.network = place / "old.export", place / "all.export", network_file(place, "network")
        with Lone(place) as source:
            self.home = source.node.home
            for file, part in ((self.old, count // 10), (self.file, count - count // 10)):
                source.node.start()
                source.user.put(part, source.node, length)
                source.node.end(signal.SIGTERM)
                p2pdb(self.home, "export", file)
        self.ids, self.length = export.ids(self.file), self.file.stat().st_size

    @classmethod
    def of(cls, world: World) -> "Large":
        """The same for all rows, of which none writes to it."""
        cls.made = cls.made or cls(world)
        return cls.made

    def init(self, home: Path) -> Path:
        p2pdb(home, "init", "--network", self.network)
        return home

    def imports(self, row: Row, home: Path):
        """What an import that failed left undone is done by the next one."""
        p2pdb(home, "import", self.file)
        row.lost += len(self.ids - held_by(home))

    def backup(self, at: Path) -> Backup:
        return Backup(at, self.old, self.ids)

    def export_fails(self, row: Row, backup: Backup) -> str:
        said = fails(self.home, "export", backup.at, "--force", row=row)
        backup.is_whole(False)
        return said


def import_full(world: World):
    row, large, place = world.row("disk full while a file is imported"), Large.of(world), world.place("import-full")
    # From hardly room for an empty store to almost enough.
    for size in (1700, 2000, 3000, 4000):
        row.trials += 1
        with Small(place / str(size), size << 10) as disk:
            home = large.init(disk.at / "home")
            says(fails(home, "import", large.file, row=row), *FULL)
            disk.resize(64 << 20)
            large.imports(row, home)
    end(world, row, "said so, whole at the second try")


def import_read_only(world: World):
    row, large = world.row("disk turns read-only while a file is imported"), Large.of(world)
    landing = Landing(world, 3)
    with Journaled(world.place("import-stuck")) as disk:
        for row.trials in landing:
            home = large.init(disk.at / str(row.trials))
            disk.sync()
            if row.trials == 1:
                # It finds it so.
                disk.fail()
                said = fails(home, "import", large.file, row=row)
            else:
                part = world.random.uniform(0, 0.9) * large.length
                running = Running(home, "import", large.file, row=row)
                running.until(lambda home=home, part=part: written(home / "store" / "store.redb.log") > part)
                with stopped(running.process):
                    disk.fail()
                said = running.fails(unless_it_works=True)
            if said:
                says(said, *READ_ONLY)
            disk.mend()
            held = held_by(home) if (home / "store" / "store.redb").exists() else set()
            if not said and held != large.ids:
                raise Failed(f"an import says that it is done, and {len(held)} of {len(large.ids)} entries are there")
            landing.hits += 0 < len(held) < len(large.ids)
            large.imports(row, home)
            shutil.rmtree(home)
    end(world, row, f"said so, {landing.hits} with a part, whole at the second try")


def export_full(world: World):
    row, large, place = world.row("disk full while the store is exported"), Large.of(world), world.place("export-full")
    with Small(place / "disk", 16 << 20) as disk:
        backup = large.backup(disk.at / "backup")
        for left in (0, world.random.randrange(large.length // 2), large.length - 4096):
            row.trials += 1
            backup.restore()
            disk.fill(left)
            says(large.export_fails(row, backup), "No space left on device", "choose a disk with room")
            backup.has_no_part()
            disk.free()
        backup.replaces_what_is_left_over(large.home)
    end(world, row, "said so, the last backup is whole, nothing left over")


def thin(at: Path, below: Small) -> Image:
    """A disk that takes what is written, and has no room for it when it is synced, as one that is thinly provisioned."""
    return Image(at, below.at / "image", "-O", "^has_journal")


def export_unsynced(world: World):
    row, large, place = world.row("disk full when an export is synced"), Large.of(world), world.place("export-thin")
    with Small(place / "below", 32 << 20) as below, thin(place / "disk", below) as disk:
        backup = large.backup(disk.at / "backup")
        backup.restore()
        disk.sync()
        below.fill()
        row.trials += 1
        said = large.export_fails(row, backup)
        backup.has_no_part()
        says(said, "cannot write the export", "choose a disk with room")
        below.free()
        backup.replaces_what_is_left_over(large.home)
    end(world, row, "said so, the last backup is whole, nothing left over")


def export_read_only(world: World):
    row, large = world.row("disk turns read-only while the store is exported"), Large.of(world)
    landing = Landing(world, 3)
    with Journaled(world.place("export-stuck")) as disk:
        backup = large.backup(disk.at / "backup")
        for row.trials in landing:
            backup.restore()
            disk.sync()
            running = Running(large.home, "export", backup.at, "--force", row=row)
            least = world.random.uniform(0, 0.9) * large.length
            running.until(lambda least=least: backup.is_written(least))
            with stopped(running.process):
                disk.fail()
            said = running.fails(unless_it_works=True)
            if said:
                landing.hits += 1
                says(said, READ_ONLY[0], "choose a disk with room that may be written to")
            said_later = large.export_fails(row, backup)
            says(said_later, "Read-only file system", "choose a directory that you may write to")
            disk.mend()
            # What it said was done is on the disk.
            backup.is_whole(not said)
        backup.replaces_what_is_left_over(large.home)
    end(world, row, f"said so, {landing.hits} in the middle, the last backup is whole")


class Oldest:
    """Stores of the first schema version, which are migrated when they are opened."""

    def __init__(self, place: Path):
        self.network = place / "network.toml"
        self.network.write_text(STORE_TEST)

    def home(self, at: Path) -> Path:
        p2pdb(at, "init", "--network", self.network)
        (at / "store").mkdir(exist_ok=True)
        shutil.copy(OLDEST, at / "store" / "store.redb")
        return at

    def migrates(self, row: Row, home: Path):
        row.lost += ITS_ENTRIES - verified(home)["entries"]


def migration(world: World):
    row, place = world.row("store of the oldest schema version"), world.place("oldest")
    oldest = Oldest(place)
    row.trials = 1
    oldest.migrates(row, oldest.home(place / "home"))
    end(world, row, f"{ITS_ENTRIES} entries, migrated, verify clean")


def migration_full(world: World):
    row, place = world.row("disk full while a store is migrated"), world.place("oldest-full")
    oldest = Oldest(place)
    with Small(place / "disk", 16 << 20) as disk:
        # More and more room, until it is enough.
        for left in range(0, 4 << 20, (2 if world.long else 8) << 10):
            home = oldest.home(disk.at / str(left))
            disk.fill(left)
            said = Running(home, "verify", row=row).fails(unless_it_works=True)
            disk.free()
            oldest.migrates(row, home)
            shutil.rmtree(home)
            if not said:
                break
            row.trials += 1
            says(said, *FULL)
        if row.trials < 3:
            raise Failed(f"it failed {row.trials} times only")
    end(world, row, f"said so, {ITS_ENTRIES} entries once there was room")


def migration_read_only(world: World):
    row, place = world.row("disk turns read-only while a store is migrated"), world.place("oldest-stuck")
    oldest, landing = Oldest(place), Landing(world, 3)
    with Journaled(place) as disk:
        for row.trials in landing:
            home = oldest.home(disk.at / str(row.trials))
            log = home / "store" / "store.redb.log"
            disk.sync()
            if row.trials == 1:
                disk.fail()
                said = fails(home, "verify", row=row)
            else:
                running = Running(home, "verify", row=row)
                running.until(lambda log=log: written(log))
                with stopped(running.process):
                    disk.fail()
                said = running.fails(unless_it_works=True)
                landing.hits += said != ""
            if said:
                says(said, *READ_ONLY)
            disk.mend()
            oldest.migrates(row, home)
    end(world, row, f"said so, {landing.hits} in the middle, {ITS_ENTRIES} entries once it could be written")


ROWS = {
    "import-full": import_full,
    "import-read-only": import_read_only,
    "export-full": export_full,
    "export-unsynced": export_unsynced,
    "export-read-only": export_read_only,
    "migration": migration,
    "migration-full": migration_full,
    "migration-read-only": migration_read_only,
}
