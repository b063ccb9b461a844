"""The clock of a running node is set, ahead and back."""

import json
import signal

from lone import SETTINGS, Lone, Running, end
from nodes import ENVIRONMENT, Failed, p2pdb, wait_for
from world import World, entries

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Passing:
    """Entries that expire ten days from now."""

    def __init__(self, lone: Lone):
        self.lone, self.id = lone, ""

    def put(self, outcome: str):
        to = ["--table", "faults", "--to", "reader", "--peer", self.lone.node.address]
        _, said = Running(self.lone.user.home, "put", "it passes", "--expires", "10 days", *to).ends()
        put = json.loads(said.splitlines()[0])
        if [node["outcome"] for node in put["nodes"]] != [outcome]:
            raise Failed(f"a put ends otherwise than {outcome}: {said}")
        self.id = self.id or put["id"]

    def is_served(self, expected: bool):
        """It is, or is not, and everything else is."""
        user, node = self.lone.user, self.lone.node
        got = p2pdb(user.home, "get", "--table", "faults", "--id", self.id, "--peer", node.address)
        if len(got["entries"]) != expected:
            raise Failed(f"served, expected {expected}: {got['entries']}")
        if entries(node) != len(user.ids()) + expected:
            raise Failed(f"{entries(node)} entries, expected {len(user.ids()) + expected}")


def clock(world: World):
    row, place = world.row("clock set ahead and back"), world.place("clock")
    # The jumps stay within the horizon.
    lone, offset = Lone(place, settings=SETTINGS + '[limits]\nhorizon = "500 days"\n'), place / "offset"
    offset.write_text("+0")
    faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    lone.node.environment = ENVIRONMENT | faked | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    passing = Passing(lone)
    try:
        lone.node.start()
        lone.user.put(10, lone.node)
        passing.put("stored")
        passing.is_served(True)
        for jump in ("+3d", "-3d", "+11d", "-11d", "+400d", "-400d", "+0"):
            row.trials += 1
            offset.write_text(jump)
            lone.put_beside(3)
            if jump.startswith("-"):
                # Of what is from its future it says so.
                lone.put_fails("created_in_future")
            else:
                status, said = lone.put_ends()
                if status != 0:
                    raise Failed(f"{jump}: {said}")
            if jump == "+11d":
                # It goes with the next sweep, and is not taken again.
                wait_for("what is expired is dropped", lambda: entries(lone.node) == len(lone.user.ids()), 60)
                passing.put("expired")
            passing.is_served(row.trials < 3)
        lone.node.end(signal.SIGTERM)
        end(world, row, "late: told what is from its future; what expires is dropped, and nothing else", lone)
    finally:
        lone.close()


ROWS = {"clock": clock}
