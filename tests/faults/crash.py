"""Processes, disks and clocks that fail, with real processes and real errors of the kernel.

After each trial `verify` is clean, every acknowledged entry is there, and what the program said names the cause and the way on.
The store's own tests kill it at every single point of its writes: `src/store/tests/crash.rs`.
"""

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import export
from hosts import do
from nodes import ENVIRONMENT, Failed, Node, command, p2pdb, wait_for
from world import PATIENCE, Row, User, World, entries, network_file

# `EXT4_IOC_SHUTDOWN` and its flag for a journal that is not written any more, as when the power fails.
SHUTDOWN, WITHOUT_JOURNAL = 0x8004587D, 2
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
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


def held_by(home: Path) -> set[bytes]:
    """The ids in a store that nobody has open, after `verify` has found nothing."""
    report = p2pdb(home, "verify")
    if not report["clean"]:
        raise Failed(f"verify of {home}: {report['problems']} problems: {report['spelled_out']}")
    file = home.parent / "held.export"
    p2pdb(home, "export", file, "--force")
    return export.ids(file)


def lost_by(node: Node, user: User) -> int:
    """How many acknowledged entries a node does not hold that does not run."""
    return len(user.ids() - held_by(node.home))


def fails(home: Path, *arguments: str | Path) -> str:
    """All that a command says that has to fail, by itself and not by a signal."""
    done = subprocess.run(
        command(home, *arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False
    )
    if done.returncode <= 0 or "panicked" in done.stderr:
        raise Failed(f"p2pdb {arguments[0]}: exit {done.returncode}, expected a failure: {done.stderr}")
    return done.stdout + done.stderr


class Lone:
    """A node, and a user who puts through it."""

    def __init__(self, place: Path, home: Path | None = None):
        network = network_file(place, "network")
        self.node = Node(home or place, "node", network)
        self.node.log_file = place / "node.log"
        self.user = User(place, network)
        self.putting: subprocess.Popen | None = None

    def put_beside(self, count: int, length: int = 200):
        """Begins to put records and goes on."""
        arguments = self.user.put_arguments(self.user.records(count, length), self.node)
        self.putting = subprocess.Popen(
            command(self.user.home, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )

    def put_ends(self) -> tuple[int, str]:
        """The exit status, and all that was said."""
        putting, self.putting = self.putting, None
        said = b"".join(putting.communicate(timeout=PATIENCE))
        return putting.returncode, said.decode()

    def acknowledged(self, count: int):
        wait_for(f"{count} entries are acknowledged", lambda: len(self.user.ids()) >= count, PATIENCE, 0.002)

    def close(self):
        for process in (self.node.process, self.putting):
            if process and process.poll() is None:
                process.kill()
                process.wait()


class Rows:
    def __init__(self, world: World):
        self.world, self.random = world, random.Random(world.seed)

    def trials(self, few: int) -> int:
        return few * 10 if self.world.long else few

    def end(self, row: Row, what: str, lone: Lone | None = None):
        if lone:
            row.lost += lost_by(lone.node, lone.user)
            row.peak = lone.node.memory()
            what = f"{what}, {len(lone.user.ids())} entries"
        row.outcome = what
        self.world.checks.equal(row.lost, 0, f"{row.fault}: {what}, none lost")

    # Killed

    def put(self):
        row, lone = self.world.row("kill -9 while entries are put"), Lone(self.world.place("put"))
        try:
            for _ in range(self.trials(4)):
                row.trials += 1
                lone.node.start()
                had = len(lone.user.ids())
                lone.put_beside(400)
                lone.acknowledged(had + self.random.randrange(1, 300))
                time.sleep(self.random.random() / 50)
                lone.node.end(signal.SIGKILL)
                row.lost += lost_by(lone.node, lone.user)
                lone.node.start()
                status, errors = lone.put_ends()
                if status != 0:
                    raise Failed(f"the client does not get over it: {errors}")
                # And killed again while it does what it does on a clean end.
                lone.node.process.send_signal(signal.SIGTERM)
                time.sleep(self.random.random() / 20)
                lone.node.end(signal.SIGKILL)
            self.end(row, "verify clean, the client went on", lone)
        finally:
            lone.close()
        return lone.node.home

    def transfer(self, full: Path):
        """`import` and `export`, killed at times spread over how long they take."""
        place = self.world.place("transfer")
        network, file = network_file(place, "network"), place / "all.export"
        p2pdb(full, "export", file)
        everything = export.ids(file)

        def home(name: str) -> Path:
            p2pdb(place / name, "init", "--network", network)
            return place / name

        def killed(part: float, took: float, at: Path, *arguments: str | Path):
            with subprocess.Popen(
                command(at, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
            ) as process:
                time.sleep(took * part)
                process.kill()

        began = time.monotonic()
        p2pdb(home("timed"), "import", file)
        took = time.monotonic() - began
        row = self.world.row("kill -9 while a file is imported")
        kept = 0
        for trial in range(self.trials(4)):
            row.trials += 1
            at = home(f"import-{trial}")
            killed(self.random.uniform(0.2, 1.0), took, at, "import", file)
            part = held_by(at) if (at / "store" / "store.redb").exists() else set()
            if not part <= everything:
                raise Failed("an import made entries up")
            kept += len(part)
            p2pdb(at, "import", file)
            row.lost += len(everything - held_by(at))
        self.end(row, f"verify clean, {kept // row.trials} of {len(everything)} kept on average, the rest at the second try")

        row = self.world.row("kill -9 while the store is exported")
        backup = place / "backup"
        shutil.copy(file, backup)
        for _ in range(self.trials(4)):
            row.trials += 1
            killed(self.random.random(), took / 2, full, "export", backup, "--force")
            row.lost += len(everything - export.ids(backup)) + len(everything - held_by(full))
        self.end(row, "the last backup is whole, verify clean")

    # Disks

    def full(self):
        """The disk of a running node fills up, and is given more room."""
        row, place = self.world.row("disk full while entries are put"), self.world.place("full")
        disk = place / "disk"
        disk.mkdir()
        do("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk))
        lone = Lone(place, disk)
        try:
            lone.node.start()
            for size in ("14m", "16m"):
                row.trials += 1
                lone.put_beside(160, 100_000)
                status, errors = lone.put_ends()
                if status == 0 or "store_failed" not in errors:
                    raise Failed(f"a full disk, and the client is told: exit {status}: {errors}")
                if "no space is left" not in lone.node.log() or "free some" not in lone.node.log():
                    raise Failed(f"the node does not say that the disk is full: {lone.node.log()}")
                had = len(lone.user.ids())
                if entries(lone.node) < had:
                    raise Failed("a node whose disk is full does not serve what it has")
                do("mount", "-o", f"remount,size={size}", str(disk))
                # It goes on without being started anew.
                lone.user.put(3, lone.node)
            self.end_full(lone, disk)
            self.end(row, "refused with a reason, served on, goes on once there is room", lone)
        finally:
            lone.close()
            do("umount", "-l", str(disk))

    def end_full(self, lone: Lone, disk: Path):
        """A node that cannot merge when it stops says so; nothing is lost."""
        (disk / "ballast").write_bytes(b"")
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        lone.node.end(signal.SIGTERM)
        (disk / "ballast").unlink()
        do("mount", "-o", "remount,size=64m", str(disk))

    def full_import(self):
        row, place = self.world.row("disk full while a file is imported"), self.world.place("full-import")
        disk, file = place / "disk", place / "all.export"
        disk.mkdir()
        source = Lone(self.world.place("large"))
        try:
            source.node.start()
            source.user.put(100, source.node, length=40_000)
            source.node.end(signal.SIGTERM)
        finally:
            source.close()
        p2pdb(source.node.home, "export", file)
        everything = export.ids(file)
        for size in (1700, 2000, 3000, 4000):
            row.trials += 1
            do("mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk))
            try:
                home = disk / "home"
                p2pdb(home, "init", "--network", network_file(place, "network"))
                said = fails(home, "import", file)
                if "no space" not in said.lower() and "store_failed" not in said:
                    raise Failed(f"an import on a full disk says: {said}")
                do("mount", "-o", "remount,size=64m", str(disk))
                p2pdb(home, "import", file)
                # What is read of it here lies beside the disk.
                row.lost += len(everything - held_by(home))
            finally:
                do("umount", "-l", str(disk))
        self.end(row, "said so, whole at the second try")

    def disk(self, place: Path) -> tuple[Path, Path]:
        """An ext4 of its own, which turns read-only at the first error."""
        image, disk = place / "image", place / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(64 << 20)
        do("mkfs.ext4", "-q", "-F", str(image))
        do("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))
        return image, disk

    def power(self):
        """The disk of a running node is gone from one moment to the next, with all that was not on it."""
        row, place = self.world.row("power failure: what was not synced is gone"), self.world.place("power")
        image, disk = self.disk(place)
        lone = Lone(place, disk)
        try:
            for _ in range(self.trials(3)):
                row.trials += 1
                lone.node.start()
                had = len(lone.user.ids())
                # What was set up is on the disk, as that of any node that has run for a while.
                os.sync()
                lone.put_beside(400)
                lone.acknowledged(had + self.random.randrange(1, 300))
                handle = os.open(disk, os.O_RDONLY)
                fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_JOURNAL))
                os.close(handle)
                lone.putting.kill()
                lone.put_ends()
                lone.node.end(signal.SIGKILL)
                do("umount", str(disk))
                do("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))
                row.lost += lost_by(lone.node, lone.user)
            self.end(row, "verify clean", lone)
        finally:
            lone.close()
            do("umount", "-l", str(disk))

    def read_only(self):
        """The kernel makes the disk of a running node read-only, as it does after an error."""
        row, place = self.world.row("disk turns read-only while entries are put"), self.world.place("stuck")
        image, disk = self.disk(place)
        lone = Lone(place, disk)
        try:
            lone.node.start()
            lone.user.put(10, lone.node)
            os.sync()
            lone.put_beside(800)
            lone.acknowledged(20)
            device = Path(next(line for line in Path("/proc/mounts").read_text().splitlines() if str(disk) in line).split()[0])
            Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("1")
            status, errors = lone.put_ends()
            if status == 0 or "store_failed" not in errors:
                raise Failed(f"a read-only disk, and the client is told: exit {status}: {errors}")
            if "Read-only file system" not in lone.node.log():
                raise Failed(f"the node does not say that the disk is read-only: {lone.node.log()}")
            if entries(lone.node) < len(lone.user.ids()):
                raise Failed("a node whose disk is read-only does not serve what it has")
            lone.node.end(signal.SIGTERM)
            said = fails(lone.node.home, "run")
            if "Read-only file system" not in said:
                raise Failed(f"a node on a read-only disk does not start, and says: {said}")
            do("umount", str(disk))
            do("mount", "-o", "loop,errors=remount-ro", str(image), str(disk))
            row.trials = 1
            lone.node.start()
            lone.user.put(10, lone.node)
            lone.node.end(signal.SIGTERM)
            self.end(row, "refused with a reason, served on, goes on once it can be written", lone)
        finally:
            lone.close()
            do("umount", "-l", str(disk))

    # Clocks and versions

    def clock(self):
        """The clock of a running node is set, ahead and back."""
        row, place = self.world.row("clock set ahead and back"), self.world.place("clock")
        lone, offset = Lone(place), place / "offset"
        offset.write_text("+0")
        faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
        lone.node.environment = ENVIRONMENT | faked | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        try:
            lone.node.start()
            lone.user.put(10, lone.node)
            for jump in ("+3d", "-3d", "+400d", "-400d", "+0"):
                row.trials += 1
                offset.write_text(jump)
                arguments = lone.user.put_arguments(lone.user.records(3), lone.node)
                if jump.startswith("-"):
                    said = fails(lone.user.home, *arguments)
                    if "created_in_future" not in said:
                        raise Failed(f"a node whose clock is late says: {said}")
                else:
                    p2pdb(lone.user.home, *arguments)
                if entries(lone.node) != len(lone.user.ids()):
                    raise Failed(f"{jump}: {entries(lone.node)} entries, expected {len(lone.user.ids())}")
            lone.node.end(signal.SIGTERM)
            self.end(row, "late: told what is from its future; nothing dropped", lone)
        finally:
            lone.close()

    def older(self):
        """A store of the first schema version opens and is migrated."""
        row, place = self.world.row("store of the oldest schema version"), self.world.place("older")
        network, home = place / "network.toml", place / "home"
        network.write_text(STORE_TEST)
        p2pdb(home, "init", "--network", network)
        (home / "store").mkdir(exist_ok=True)
        shutil.copy("src/store/tests/v1.redb", home / "store" / "store.redb")
        report = p2pdb(home, "verify")
        row.trials = 1
        self.world.checks.equal((report["clean"], report["entries"]), (True, 11), "11 entries, migrated, verify clean")
        row.outcome = "migrated, verify clean"


def run(world: World):
    rows = Rows(world)
    full = rows.put()
    rows.transfer(full)
    for fault in (rows.full, rows.full_import, rows.power, rows.read_only, rows.clock, rows.older):
        try:
            fault()
        except (Failed, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            world.checks.check(False, f"{world.rows[-1].fault}: {error}")
            world.rows[-1].outcome = "FAILED"
