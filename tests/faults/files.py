"""Commands that write much, on disks that fail: import, export and the migration of a store. Each ends with a reason and advice,
spoils nothing, and does it all once it can."""

import os
import shutil
import signal
from pathlib import Path

import export
from disks import FULL, READ_ONLY
from hosts import do
from kills import Landing, written
from lone import Lone, Running, end, fails, held_by, says, verified
from mounts import Journaled, Small
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
    """A home with a store of some MiB, and the export of it."""

    def __init__(self, world: World, name: str, count: int = 100, length: int = 40_000):
        place = world.place(name)
        source = Lone(place)
        try:
            source.node.start()
            source.user.put(count, source.node, length)
            source.node.end(signal.SIGTERM)
        finally:
            source.close()
        self.home, self.file, self.network = source.node.home, place / "all.export", network_file(place, "network")
        p2pdb(self.home, "export", self.file)
        self.ids = export.ids(self.file)

    def init(self, home: Path) -> Path:
        p2pdb(home, "init", "--network", self.network)
        return home

    def imports(self, row: Row, home: Path):
        """What an import that failed left undone is done by the next one."""
        p2pdb(home, "import", self.file)
        row.lost += len(self.ids - held_by(home))


def import_full(world: World):
    row, large = world.row("disk full while a file is imported"), Large(world, "import-full")
    # From hardly room for an empty store to almost enough.
    for size in (1700, 2000, 3000, 4000):
        row.trials += 1
        disk = Small(large.home.parent / str(size), size << 10)
        try:
            home = large.init(disk.at / "home")
            says(fails(home, "import", large.file, row=row), *FULL)
            disk.resize(64 << 20)
            large.imports(row, home)
        finally:
            disk.close()
    end(world, row, "said so, whole at the second try")


def import_read_only(world: World):
    row, large = world.row("disk turns read-only while a file is imported"), Large(world, "import-stuck")
    disk, landing = Journaled(large.home.parent), Landing(world, 3)
    try:
        for row.trials in landing:
            home = large.init(disk.at / str(row.trials))
            os.sync()
            if row.trials == 1:
                # It finds it so.
                disk.fail()
                said = fails(home, "import", large.file, row=row)
            else:
                part = world.random.uniform(0, 0.9) * large.file.stat().st_size
                running = Running(home, "import", large.file, row=row)
                running.until(lambda home=home, part=part: written(home / "store" / "store.redb.log") > part)
                disk.fail()
                said = running.fails(unless_it_works=True)
            if said:
                says(said, *READ_ONLY)
            disk.mend()
            held = held_by(home) if (home / "store" / "store.redb").exists() else set()
            landing.hits += 0 < len(held) < len(large.ids)
            large.imports(row, home)
            shutil.rmtree(home)
    finally:
        disk.close()
    end(world, row, f"said so, {landing.hits} with a part, whole at the second try")


def export_full(world: World):
    row, large = world.row("disk full while the store is exported"), Large(world, "export-full")
    disk = Small(large.home.parent / "disk", 16 << 20)
    backup, part, size = disk.at / "backup", disk.at / "backup.part", large.file.stat().st_size
    try:
        shutil.copy(large.file, backup)
        for left in (0, world.random.randrange(size // 2), size - 4096):
            row.trials += 1
            disk.fill(left)
            said = fails(large.home, "export", backup, "--force", row=row)
            says(said, "No space left on device", "choose a disk with room")
            row.lost += len(large.ids - export.ids(backup))
            if part.exists():
                raise Failed("an export that failed leaves a part of it behind")
            disk.free()
        p2pdb(large.home, "export", backup, "--force")
        row.lost += len(large.ids - export.ids(backup))
    finally:
        disk.close()
    end(world, row, "said so, the last backup is whole, nothing left over")


def export_unsynced(world: World):
    """A disk that takes what is written, and has no room for it when it is synced, as one that is thinly provisioned."""
    row, large = world.row("disk full when an export is synced"), Large(world, "export-thin")
    below = Small(large.home.parent / "below", 32 << 20)
    image, disk = below.at / "image", large.home.parent / "disk"
    disk.mkdir()
    backup, part = disk / "backup", disk / "backup.part"
    try:
        with image.open("wb") as file:
            file.truncate(64 << 20)
        do("mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image))
        do("mount", "-o", "loop", str(image), str(disk))
        shutil.copy(large.file, backup)
        os.sync()
        below.fill()
        row.trials += 1
        said = fails(large.home, "export", backup, "--force", row=row)
        row.lost += len(large.ids - export.ids(backup))
        if part.exists():
            raise Failed("an export that failed leaves a part of it behind")
        says(said, "cannot write the export", "choose a disk with room")
        below.free()
        p2pdb(large.home, "export", backup, "--force")
        row.lost += len(large.ids - export.ids(backup))
    finally:
        do("umount", "-l", str(disk))
        below.close()
    end(world, row, "said so, the last backup is whole, nothing left over")


def export_read_only(world: World):
    row, large = world.row("disk turns read-only while the store is exported"), Large(world, "export-stuck")
    disk, landing = Journaled(large.home.parent), Landing(world, 3)
    backup, part = disk.at / "backup", disk.at / "backup.part"
    try:
        shutil.copy(large.file, backup)
        for row.trials in landing:
            os.sync()
            running = Running(large.home, "export", backup, "--force", row=row)
            least = world.random.uniform(0, 0.9) * large.file.stat().st_size
            running.until(lambda least=least: part.exists() and part.stat().st_size > least)
            disk.fail()
            if said := running.fails(unless_it_works=True):
                landing.hits += 1
                says(said, READ_ONLY[0], "choose a disk with room that may be written to")
            said = fails(large.home, "export", backup, "--force", row=row)
            says(said, "Read-only file system", "choose a directory that you may write to")
            row.lost += len(large.ids - export.ids(backup))
            disk.mend()
            row.lost += len(large.ids - export.ids(backup))
        p2pdb(large.home, "export", backup, "--force")
        row.lost += len(large.ids - export.ids(backup))
        if part.exists():
            raise Failed("an export leaves a part behind")
    finally:
        disk.close()
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
    oldest, disk = Oldest(place), Small(place / "disk", 16 << 20)
    try:
        # More and more room, until it is enough.
        for left in range(0, 4 << 20, (2 if world.long else 8) << 10):
            home = oldest.home(disk.at / str(left))
            disk.fill(left)
            said = Running(home, "verify", row=row).fails(unless_it_works=True)
            if not said:
                break
            row.trials += 1
            says(said, *FULL)
            disk.free()
            oldest.migrates(row, home)
            shutil.rmtree(home)
        if row.trials < 3:
            raise Failed(f"it failed {row.trials} times only")
    finally:
        disk.close()
    end(world, row, f"said so, {ITS_ENTRIES} entries once there was room")


def migration_read_only(world: World):
    row, place = world.row("disk turns read-only while a store is migrated"), world.place("oldest-stuck")
    oldest, disk, landing = Oldest(place), Journaled(place), Landing(world, 3)
    try:
        for row.trials in landing:
            home = oldest.home(disk.at / str(row.trials))
            log = home / "store" / "store.redb.log"
            os.sync()
            if row.trials == 1:
                disk.fail()
                said = fails(home, "verify", row=row)
            else:
                running = Running(home, "verify", row=row)
                running.until(lambda log=log: written(log))
                disk.fail()
                said = running.fails(unless_it_works=True)
                landing.hits += said != ""
            if said:
                says(said, *READ_ONLY)
            disk.mend()
            oldest.migrates(row, home)
    finally:
        disk.close()
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
