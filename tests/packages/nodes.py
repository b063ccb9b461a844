"""Runs p2pdb: commands, and nodes as processes."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = os.environ["P2PDB"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("P2PDB_")}

# All peers of this test have one address, and what is measured is not how slowly nodes may be asked to work.
SETTINGS = """
kad_mode = "server"
sync_interval = "5 seconds"
[rates]
hello = 0
index = 0
index_pages = 0
get = 0
get_bytes = 0
put = 0
[nat]
autonat = false
relay_client = false
dcutr = false
upnp = false
"""


class Failed(Exception):
    """A command that should work did not, or something did not happen in time."""


def command(home: Path, *arguments: str | Path) -> list[str]:
    return [PROGRAM, "--home", str(home), "--json", *map(str, arguments)]


def p2pdb(home: Path, *arguments: str | Path, timeout: float = 120):
    """The JSON answer of a command that has to work."""
    done = subprocess.run(
        command(home, *arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise Failed(f"p2pdb {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def wait_for(what: str, condition: Callable[[], object], timeout: float, pause: float = 0.05):
    """What the condition gives, as soon as it gives anything."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise Failed(f"waited {timeout:.0f} s for: {what}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Node:
    """A home, and the process that runs on it at times."""

    def __init__(self, directory: Path, name: str, network: Path):
        self.name, self.home = name, directory / name
        self.listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        made = p2pdb(self.home, "init", "--network", network, "--listen", self.listen)
        self.address = f"{self.listen}/p2p/{made['peer_id']}"
        with (self.home / "config.toml").open("a") as config:
            config.write(SETTINGS)
        self.process: subprocess.Popen | None = None

    def start(self) -> float:
        """Runs it until it says that it can be reached; the seconds that took."""
        began = time.monotonic()
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(
                command(self.home, "run"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT
            )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Failed(f"node {self.name} does not start:\n{self.log()}")
        return time.monotonic() - began

    def end(self, number: signal.Signals) -> int:
        """Signals the process and waits for it; its exit status, negative for a signal."""
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"node {self.name} does not end on {number.name}") from None
        finally:
            process.stdout.close()

    def status(self) -> dict:
        if self.process and self.process.poll() is not None:
            raise Failed(f"node {self.name} ended by itself with {self.process.returncode}:\n{self.log()}")
        done = subprocess.run(
            command(self.home, "status"), capture_output=True, text=True, env=ENVIRONMENT, timeout=30, check=False
        )
        # 4: it runs, and is not connected.
        if done.returncode not in (0, 4):
            raise Failed(f"node {self.name} has no status: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def index(self, table: str) -> list[dict]:
        return p2pdb(self.home, "index", table, "--peer", self.address)["buckets"]

    def log(self) -> str:
        return (self.home / "log").read_text()[-2000:]
