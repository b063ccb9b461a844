"""Records of a Debian package index."""

import os
import subprocess
from pathlib import Path

STATUS = Path("/var/lib/dpkg/status")


def available() -> list[bytes]:
    """The records that apt knows of."""
    try:
        output = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, timeout=120, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return split(output.stdout)


def split(text: bytes) -> list[bytes]:
    return [record for record in text.split(b"\n\n") if record.strip()]


def collect(count: int) -> tuple[list[bytes], str]:
    """So many records, all different, and where they are from."""
    records = available()
    if len(records) < count and os.geteuid() == 0:
        print("the package index is empty or short: apt-get update", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], timeout=180, check=False)
        records = available()
    source = "apt-cache dumpavail"
    if len(records) < count:
        installed = split(STATUS.read_bytes())
        source = f"{STATUS} ({len(installed)} records, told apart by a number), for want of a package index"
        copies = range(1 + count // max(1, len(installed)))
        records = [record.strip(b"\n") + b"\nCopy: %d" % copy for copy in copies for record in installed]
    # The same package may stand in several indexes.
    different = list(dict.fromkeys(record.strip(b"\n") for record in records))
    assert len(different) >= count, f"{len(different)} records, expected {count}"
    return different[:count], source
