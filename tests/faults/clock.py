"""The clock of a running node is set, ahead and back."""

import json
import signal
from pathlib import Path

from lone import SETTINGS, Lone, Running, end, held_by
from nodes import ENVIRONMENT, Failed, p2pdb, wait_for
from world import World, entries

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Clocked(Lone):
    """A node with a clock of its own, and entries that expire beside those that are to stay."""

    def __init__(self, place: Path, limits: str = ""):
        super().__init__(place, settings=SETTINGS + limits)
        self.offset, self.passing = place / "offset", dict[int, str]()
        self.set("+0")
        faked = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(self.offset), "FAKETIME_NO_CACHE": "1"}
        self.node.environment = ENVIRONMENT | faked | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set(self, offset: str):
        self.offset.write_text(offset)

    def put_passing(self, days: int, outcome: str) -> str:
        """Puts the entry that expires so many days from now, always the same; its id."""
        to = ["--table", "faults", "--to", "reader", "--peer", self.node.address]
        running = Running(self.user.home, "put", f"it passes in {days} days", "--expires", f"{days} days", *to)
        ended = running.ends()
        put = json.loads(ended.out)
        if [node["outcome"] for node in put["nodes"]] != [outcome]:
            raise Failed(f"a put ends otherwise than {outcome}: {ended.said()}")
        return put["id"]

    def begin(self, *days: int):
        self.node.start()
        self.user.put(10, self.node)
        self.passing = {number: self.put_passing(number, "stored") for number in days}
        self.serves_all()

    def goes(self, days: int):
        """With the next sweep it goes, and is not taken again: every entry was looked at then."""
        left = len(self.user.ids()) + len(self.passing) - 1
        wait_for("what is expired is dropped", lambda: entries(self.node) <= left, 60)
        gone = self.passing.pop(days)
        self.put_passing(days, "expired")
        if self.gets(gone):
            raise Failed(f"what expires in {days} days is served")

    def gets(self, entry: str) -> list:
        got = p2pdb(self.user.home, "get", "--table", "faults", "--id", entry, "--peer", self.node.address)
        return got["entries"]

    def serves_all(self):
        """Everything that is not expired, and nothing else."""
        held, expected = entries(self.node), len(self.user.ids()) + len(self.passing)
        if held != expected or not all(map(self.gets, self.passing.values())):
            raise Failed(f"{held} entries, expected {expected}, {len(self.passing)} of them to expire")


def clock(world: World):
    """Without a horizon: whatever the clock says, only what its author let expire is dropped."""
    row, place = world.row("clock set ahead and back"), world.place("clock")
    with Clocked(place) as lone:
        lone.begin(10, 300)
        for jump in ("+3d", "-3d", "+11d", "-11d", "+1000d", "-1000d", "+0"):
            row.trials += 1
            lone.set(jump)
            lone.put_beside(3)
            if jump.startswith("-"):
                # Of what is from its future it says so.
                lone.put_fails("created_in_future")
            else:
                ended = lone.put_ends()
                if ended.status != 0:
                    raise Failed(f"{jump}: {ended.said()}")
            if days := {"+11d": 10, "+1000d": 300}.get(jump):
                lone.goes(days)
            lone.serves_all()
        lone.node.end(signal.SIGTERM)
        end(world, row, "late: told what is from its future; what expires is dropped, and nothing else", lone)


def horizon(world: World):
    """With one: what lies beyond it by the clock of the node is dropped, and nothing else."""
    row, place = world.row("clock set ahead, with a horizon"), world.place("horizon")
    with Clocked(place, '[limits]\nhorizon = "500 days"\n') as lone:
        lone.begin(300)
        row.trials = 2
        lone.set("+400d")
        lone.goes(300)
        lone.serves_all()
        lone.set("+600d")
        wait_for("what lies beyond the horizon is dropped", lambda: entries(lone.node) == 0, 60)
        dropped = lone.user.ids()
        lone.set("+0")
        # Once it is right again, what is new is kept as ever.
        lone.user.put(10, lone.node)
        lone.serves(10)
        lone.node.end(signal.SIGTERM)
        row.lost, row.peak = len(lone.user.ids() - dropped - held_by(lone.node.home)), lone.node.memory()
    end(world, row, f"{len(dropped)} entries beyond it are dropped, what is new afterwards is kept")


ROWS = {"clock": clock, "horizon": horizon}
