"""Faults of networks."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hosts import Host, Lan
from lone import held_by
from nodes import SETTINGS, Failed, Node, wait_for
from world import PATIENCE, Row, User, World, converge, entries, met, network_file

PORT = 4711
# Entries that are put in each trial.
COUNT = 30
# Trials of each fault with --long.
TRIALS = 5


def settings(**nat: bool) -> str:
    """Those of all nodes, with some of the means against routers switched on."""
    text = SETTINGS
    for name, is_on in nat.items():
        line = f"{name} = {str(is_on).lower()}\n"
        text = text.replace(f"{name} = false\n", line) if f"{name} = " in text else text + line
    return text


def listen(address: str) -> str:
    return f"/ip{6 if ':' in address else 4}/{address}/tcp/{PORT}"


class Swarm:
    """Nodes on hosts of their own, of which all know the first."""

    def __init__(self, world: World, name: str, addresses: dict[str, str]):
        self.world, self.place = world, world.place(name)
        self.lan = Lan(world.seed)
        self.nodes: dict[str, Node] = {}
        network = network_file(self.place, "alone")
        for node, address in addresses.items():
            self.add(node, self.lan.host(node, f"{address}/{64 if ':' in address else 24}"), address, network)
            if len(self.nodes) == 1:
                network = network_file(self.place, "network", [self.nodes[node].address])
        self.user = User(self.place, network)
        wait_for("all nodes have met", met(self.nodes.values(), len(self.nodes) - 1), 60)

    def add(self, name: str, host: Host, address: str, network: Path, settings: str = SETTINGS) -> Node:
        node = Node(self.place, name, network, listen(address), host.inside, settings)
        self.nodes[name] = node
        node.start()
        return node

    def port(self, name: str):
        return self.lan.hosts[name].ports[0]

    def converge(self, patience: float = PATIENCE) -> float:
        return converge(self.nodes.values(), self.user.table, len(self.user.ids()), patience)

    def peak(self) -> int:
        return max(node.memory() for node in self.nodes.values())

    def close(self):
        for node in self.nodes.values():
            if node.process:
                node.end(signal.SIGKILL)
        self.lan.close()


class Faults:
    """Each fault on five nodes that stay up over all of them."""

    def __init__(self, world: World):
        self.world = world
        addresses = {name: f"203.0.113.{number}" for number, name in enumerate("ABCDE", 1)}
        self.swarm = Swarm(world, "five", addresses)
        self.nodes, self.user, self.usual = self.swarm.nodes, self.swarm.user, 0.0
        # Each row with the ids that were acknowledged in it.
        self.acknowledged: list[tuple[Row, set[bytes]]] = []

    def trial(self, fault: str, during: Callable[[], None]):
        """Puts entries under a fault, mends the network, and waits until all nodes are equal; with --long several times. What
        is told is the worst of them; as slower, the time from the first put until then, beside that of the same without a
        fault."""
        row = self.world.row(fault)
        switch, had = self.swarm.lan.switch, self.user.ids()
        whole = took = carried = mending = 0.0
        for _ in range(TRIALS if self.world.long else 1):
            before, began = switch.carried, time.monotonic()
            during()
            switch.mend()
            for port in switch.ports.values():
                port.segment = "internet"
            mended = switch.carried
            took = max(took, self.swarm.converge())
            whole = max(whole, time.monotonic() - began)
            carried, mending = max(carried, switch.carried - before), max(mending, switch.carried - mended)
            row.trials += 1
        row.peak = self.swarm.peak()
        if self.usual:
            row.slowdown = whole / self.usual
        new = self.user.ids() - had
        self.acknowledged.append((row, new))
        row.outcome = (
            f"{len(new)} entries, equal indexes after {whole:.1f} s and {carried / 1024:.0f} KiB,"
            f" {took:.1f} s and {mending / 1024:.0f} KiB of them after the end of the fault"
        )
        self.world.checks.check(True, f"{fault}: five nodes with equal indexes of {len(had | new)} entries")
        return whole

    def without(self):
        self.usual = self.trial("no fault, to compare with", lambda: self.put("A"))

    def put(self, through: str, count: int = COUNT):
        self.user.put(count, self.nodes[through])

    def held(self, names: str, count: int):
        for name in names:
            wait_for(f"{name} holds {count}", lambda n=name: entries(self.nodes[n]) >= count, PATIENCE, 0.1)

    def partition(self):
        def during():
            for name in "DE":
                self.swarm.port(name).segment = "island"
            before = len(self.user.ids())
            self.put("A")
            self.put("D")
            # Each part goes on for itself, and neither has what the other has.
            self.held("BC", before + COUNT)
            self.held("E", before + COUNT)
            for name in "ABCDE":
                held = entries(self.nodes[name])
                if held != before + COUNT:
                    raise Failed(f"{name} holds {held} entries across the gap, expected {before + COUNT}")
            if self.world.long:
                # Until every connection across the gap is given up.
                wait_for("the parts lose each other", lambda: not met([self.nodes["A"]], 3)(), 300, 1)

        self.trial("partition of 5 nodes, 3 and 2, then healed", during)

    def every_way(self, **change):
        for port in self.swarm.lan.switch.ports.values():
            for way in port.ways():
                for name, value in change.items():
                    setattr(way, name, value)

    def loss(self):
        def during():
            # Of ten packets two do not come: lost on the first cable or on the second one.
            self.every_way(loss=1 - 0.8**0.5)
            self.put("A")
            self.swarm.converge()

        self.trial("20 % of all packets lost", during)

    def latency(self):
        def during():
            self.every_way(delay=0.15)
            self.put("B")
            self.swarm.converge()

        self.trial("300 ms latency each way", during)

    def flapping(self):
        def during():
            ways = self.swarm.port("E").ways()
            for _ in range(5 if not self.world.long else 60):
                for up in (False, True):
                    for way in ways:
                        way.up = up
                    self.put("A", 3)
            for _ in range(2 if self.world.long else 0):
                for way in ways:
                    way.up = False
                self.put("A", 3)
                # Over heartbeats that nobody answers, until every connection is given up.
                wait_for("the others lose E", lambda: not met([self.nodes["A"]], 4)(), 300, 1)
                self.put("A", 3)
                for way in ways:
                    way.up = True
                wait_for("all nodes have met again", met(self.nodes.values(), 4), 300, 1)
            self.put("E", 3)

        self.trial("a link that goes down and comes up", during)

    def asymmetric(self):
        def during():
            # It hears everybody, and nobody hears it.
            self.swarm.port("D").from_host.up = False
            before = len(self.user.ids())
            self.put("A")
            self.held("BCE", before + COUNT)

        self.trial("a link that is dead in one direction", during)

    def slow(self):
        def during():
            for way in self.swarm.port("C").ways():
                way.rate = 16e3
            before = len(self.user.ids())
            began = time.monotonic()
            self.put("A")
            self.held("BDE", before + COUNT)
            others = time.monotonic() - began
            self.world.checks.check(
                others < 3 * self.usual + 5, f"a peer at 128 kbit/s: the others have everything after {others:.1f} s"
            )
            self.held("C", before + COUNT)

        self.trial("a peer at 128 kbit/s", during)

    def crowd(self):
        """A host opens thousands of connections and says nothing, or garbage, on them. Honest ones, new ones too, go on."""
        attacker = self.swarm.lan.host("attacker", "203.0.113.66/24")
        flood = subprocess.Popen(
            [*attacker.inside, sys.executable, "tests/faults/flood.py", "203.0.113.1", str(PORT), "3000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            if "flooding" not in flood.stdout.readline():
                raise Failed("the attacker does not begin")

            def during():
                # Each put is a new connection of a client, to the node that is attacked.
                for _ in range(3):
                    self.put("B", 5)
                    self.user.put(5, self.nodes["A"], inside=self.nodes["B"].inside)

            self.trial("3,000 connections from one address", during)
            if flood.poll() is not None:
                raise Failed("the attacker has given up")
            descriptors = len(list(Path(f"/proc/{self.nodes['A'].process.pid}/fd").iterdir()))
            self.world.checks.check(descriptors < 256, f"... {descriptors} descriptors of the node that is attacked")
            flood.terminate()
            established = int(flood.communicate(timeout=PATIENCE)[0])
            self.world.checks.check(established >= 2000, f"... {established} connections were established")
        finally:
            flood.kill()
            flood.wait()

    def verify_all(self):
        """Nothing acknowledged is missing anywhere, by the ids themselves."""
        for node in self.nodes.values():
            node.end(signal.SIGTERM)
            held = held_by(node.home)
            for row, ids in self.acknowledged:
                row.lost += len(ids - held)
            lost = len(self.user.ids() - held)
            self.world.checks.check(lost == 0, f"{node.name} holds every acknowledged entry ({lost} lost)")


def five_nodes(world: World):
    faults = Faults(world)
    try:
        faults.without()
        for fault in (
            faults.partition, faults.loss, faults.latency, faults.flapping, faults.asymmetric, faults.slow, faults.crowd
        ):  # fmt: skip
            fault()
        faults.verify_all()
    finally:
        faults.swarm.close()


def ipv6(world: World):
    swarm = Swarm(world, "ipv6", {name: f"2001:db8::{number}" for number, name in enumerate("ABC", 1)})
    try:
        row = world.row("IPv6 only")
        swarm.user.put(COUNT, swarm.nodes["B"])
        took = swarm.converge()
        row.trials, row.peak = 1, swarm.peak()
        row.outcome = f"equal indexes, {COUNT} entries, {took:.1f} s"
        world.checks.check(True, f"IPv6 only: three nodes with equal indexes of {COUNT} entries")
    finally:
        swarm.close()


class Homes:
    """Two nodes in two homes behind routers that hide them, and a node on the internet that relays and keeps nothing."""

    def __init__(self, world: World, name: str, dcutr: bool):
        self.place, self.lan = world.place(name), Lan(world.seed)
        self.nodes: dict[str, Node] = {}
        network = network_file(self.place, "alone")
        relay = self.lan.host("R", "203.0.113.1/24")
        # Whoever relays has to know where it can be reached: it is what it hands to those it relays for.
        keeps_nothing = f'tables = []\nexternal_addresses = ["{listen("203.0.113.1")}"]\n'
        keeps_nothing += settings(autonat=True, relay_server=True)
        self.relay = self.add("R", relay, "203.0.113.1", network, keeps_nothing)
        network = network_file(self.place, "network", [self.relay.address])
        hidden = settings(autonat=True, relay_client=True, dcutr=dcutr)
        for number, name in enumerate("NP", 2):
            router = self.lan.host(f"router{number}")
            router.plug(f"home{number}", f"192.168.{number}.1/24")
            router.plug("internet", f"203.0.113.{number}/24")
            router.masquerade()
            inner = f"192.168.{number}.2"
            host = self.lan.host(name, f"{inner}/24", segment=f"home{number}")
            host.route(f"192.168.{number}.1")
            self.add(name, host, inner, network, hidden)
        self.user = User(self.place, network)

    def add(self, name: str, host: Host, address: str, network: Path, settings: str) -> Node:
        node = self.nodes[name] = Node(self.place, name, network, listen(address), host.inside, settings)
        node.start()
        return node

    def close(self):
        for node in self.nodes.values():
            if node.process:
                node.end(signal.SIGKILL)
        self.lan.close()


def behind_routers(world: World):
    for dcutr in (False, True) if world.long else (True,):
        row = world.row("behind NAT, " + ("hole-punched, and the relay is gone" if dcutr else "through a relay"))
        homes = Homes(world, f"homes-{dcutr}", dcutr)
        try:
            hidden = [homes.nodes[name] for name in "NP"]
            began = time.monotonic()
            homes.user.put(COUNT, hidden[0])
            took = converge(hidden, homes.user.table, COUNT)
            world.checks.equal(entries(homes.relay), 0, "the relay holds nothing")
            row.trials, row.peak = 1, max(node.memory() for node in homes.nodes.values())
            row.outcome = f"equal indexes, {COUNT} entries, {time.monotonic() - began:.1f} s"
            if dcutr:
                homes.relay.end(signal.SIGKILL)
                homes.user.put(COUNT, hidden[1])
                took = converge(hidden, homes.user.table, 2 * COUNT)
                row.outcome += f"; {COUNT} more {took:.1f} s after the relay was killed"
            world.checks.check(True, f"{row.fault}: two nodes with equal indexes")
        except Failed:
            for node in homes.nodes.values():
                print(f"-- log of {node.name}\n{node.log()}")
            raise
        finally:
            homes.close()
