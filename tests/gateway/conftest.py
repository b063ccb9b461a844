"""A swarm of three nodes, and the daemons of their users: processes of the program that `pip install` brought."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes import ENVIRONMENT, Node, command, p2pdb, wait_for

# An entry takes long enough for its progress to be seen, and short enough for a test.
NETWORK = """\
name = "p2pdb-gateway"
bucket_bits = 12
work_price = {price}
work_base_bytes = 2048
work_puzzles = 32
max_entry_bytes = 262144
max_clock_ahead = 600
epoch_seconds = 604800
bootstrap = [{bootstrap}]
"""

Answer = tuple[int, dict[str, str], str]


class Daemon:
    """A home, and the daemon that runs on it."""

    def __init__(self, home: Path):
        self.home = home
        self.process = subprocess.Popen(
            command(home, "gateway", "--listen", "127.0.0.1:0", "--threads", "1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(home / "log").open("a"),
            env=ENVIRONMENT,
        )
        line = self.process.stdout.readline()
        assert line, f"the daemon does not start: {(home / 'log').read_text()}"
        ready = json.loads(line)
        self.url, self.page = ready["url"], ready["page"]
        self.host = self.url.removeprefix("http://")
        self.token = Path(ready["token_file"]).read_text().strip()

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode()

    def ask(self, method: str, path: str, body: object = None):
        """The JSON of an answer that is no problem."""
        status, _, text = self.send(method, path, body)
        assert status < 300, f"{method} {path}: {status}: {text}"
        return json.loads(text) if text else None

    def entries(self, query: str) -> list[dict]:
        return self.ask("GET", f"/v1/get?{query}")["entries"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


class Swarm:
    """Three nodes on one network."""

    def __init__(self, directory: Path, price: int):
        self.directory = directory
        alone, self.network = directory / "alone.toml", directory / "network.toml"
        alone.write_text(NETWORK.format(price=price, bootstrap=""))
        self.nodes = [Node(directory, "A", alone)]
        # Whoever comes later knows A and nobody else.
        self.network.write_text(NETWORK.format(price=price, bootstrap=f'"{self.nodes[0].address}"'))
        self.nodes += [Node(directory, name, self.network) for name in "BC"]
        for node in self.nodes:
            node.start()
        wait_for("the nodes meet", lambda: all(self.meets_all(node) for node in self.nodes), 60)

    def meets_all(self, node: Node) -> bool:
        peers = [peer for peer in node.status()["swarm"]["peers"] if peer["serves"]]
        return len(peers) >= len(self.nodes) - 1

    def user(self, name: str, key: str | None = None) -> Path:
        """A home with a key of this name, or another one."""
        home = self.directory / name
        p2pdb(home, "init", "--network", self.network)
        p2pdb(home, "key", "new", key or name, "--bits", "2048")
        return home

    def stop(self):
        for node in self.nodes:
            if node.process:
                node.process.kill()
                node.process.wait()
                node.process.stdout.close()


@pytest.fixture(scope="session")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    swarm = Swarm(tmp_path_factory.mktemp("swarm"), price=1 << 22)
    yield swarm
    swarm.stop()


@pytest.fixture
def start() -> Iterator[Callable[[Path], Daemon]]:
    """Starts daemons that end with the test."""
    running: list[Daemon] = []

    def start(home: Path) -> Daemon:
        running.append(Daemon(home))
        return running[-1]

    yield start
    for daemon in running:
        daemon.stop()


@pytest.fixture(scope="session")
def out() -> Path:
    """Where what people want to look at is left."""
    return Path(os.environ["OUT"])
