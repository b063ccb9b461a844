"""The rows of the table one after the other: see `run`."""

import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

# What runs p2pdb is that of the other suite.
sys.path.insert(1, str(Path(__file__).parent.parent / "packages"))

import clock
import disks
import files
import hosts
import kills
import network
from world import World

ROWS = {
    "network": network.five_nodes,
    "ipv6": network.ipv6,
    "nat": network.behind_routers,
    **kills.ROWS,
    **disks.ROWS,
    **files.ROWS,
    **clock.ROWS,
}


def main(arguments: list[str]) -> int:
    if missing := hosts.can_run():
        print(f"cannot make hosts: {missing}", file=sys.stderr)
        return 1
    long = "--long" in arguments
    wanted = [argument for argument in arguments if not argument.startswith("--")]
    seed = int(os.environ.get("SEED", "1"))
    print(f"SEED={seed}")
    with tempfile.TemporaryDirectory(prefix="p2pdb-faults-") as directory:
        world = World(Path(directory), seed, long)
        for name, rows in ROWS.items():
            if wanted and not any(part in name for part in wanted):
                continue
            had = len(world.rows)
            try:
                rows(world)
            except Exception as error:
                traceback.print_exc()
                world.checks.check(False, f"{name}: {error!r}")
                if len(world.rows) == had:
                    world.row(name)
                world.rows[-1].outcome = "FAILED"
        # Before what may fail yet: removing what is in use.
        world.table()
        print(f"\n{world.checks.passed} passed, {world.checks.failed} failed", flush=True)
    return min(1, world.checks.failed)


if __name__ == "__main__":
    # A signal ends the nodes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1:]))
