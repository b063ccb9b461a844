"""Disks that fail, by the kernel's own errors: small ones that are full, and ones that turn read-only or lose their power."""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Self

from hosts import do

# `EXT4_IOC_SHUTDOWN` and its flag for a journal that is not written any more, as when the power fails.
SHUTDOWN, WITHOUT_JOURNAL = 0x8004587D, 2


class Mounted:
    """What is mounted as long as somebody works with it."""

    at: Path

    def sync(self):
        """Writes all of it, and of no other disk of the machine."""
        do("sync", "--file-system", str(self.at))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        do("umount", "-l", str(self.at))


class Small(Mounted):
    """A tmpfs of so many bytes."""

    def __init__(self, at: Path, size: int):
        self.at, self.ballast = at, at / "ballast"
        at.mkdir()
        do("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at))

    def resize(self, size: int):
        do("mount", "-o", f"remount,size={size}", str(self.at))

    def fill(self, left: int = 0):
        """Fills it, but for so many bytes."""
        with self.ballast.open("wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(1 << 16)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            ballast.truncate(max(0, ballast.tell() - left))

    def free(self):
        self.ballast.unlink()


class Image(Mounted):
    """An ext4 of its own, on a file."""

    options = "loop"

    def __init__(self, at: Path, image: Path, *features: str):
        self.at, self.image = at, image
        at.mkdir()
        with image.open("wb") as file:
            file.truncate(64 << 20)
        do("mkfs.ext4", "-q", "-F", *features, str(image))
        self.mount()

    def mount(self):
        do("mount", "-o", self.options, str(self.image), str(self.at))


class Journaled(Image):
    """One that turns read-only at the first error."""

    options = "loop,errors=remount-ro"

    def __init__(self, place: Path):
        super().__init__(place / "disk", place / "image")

    def fail(self):
        """The kernel finds an error on it. What was synced before is safe; whoever writes is to be stopped: see `stop`."""
        mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
        device = next(Path(device) for device, at, *_ in mounts if at == str(self.at))
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("1")

    def lose_power(self):
        handle = os.open(self.at, os.O_RDONLY)
        fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_JOURNAL))
        os.close(handle)

    def mend(self):
        """Nobody may have anything open on it."""
        do("umount", str(self.at))
        self.mount()
