"""Runs p2pdb: commands, and nodes as processes."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
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


def command(home: Path, *arguments: str | Path, inside: Sequence[str] = ()) -> list[str]:
    """The command line; `inside` goes before it, and runs it elsewhere."""
    return [*inside, PROGRAM, "--home", str(home), "--json", *map(str, arguments)]


def p2pdb(home: Path, *arguments: str | Path, timeout: float = 120, inside: Sequence[str] = ()):
    """The JSON answer of a command that has to work."""
    line = command(home, *arguments, inside=inside)
    done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout, check=False)
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

    def __init__(
        self,
        directory: Path,
        name: str,
        network: Path,
        listen: str | None = None,
        inside: Sequence[str] = (),
        settings: str = SETTINGS,
    ):
        self.name, self.home, self.inside = name, directory / name, inside
        self.listen = listen or f"/ip4/127.0.0.1/tcp/{free_port()}"
        made = p2pdb(self.home, "init", "--network", network, "--listen", self.listen)
        self.peer_id = made["peer_id"]
        self.address = f"{self.listen}/p2p/{self.peer_id}"
        with (self.home / "config.toml").open("a") as config:
            config.write(settings)
        self.process: subprocess.Popen | None = None
        self.log_file = self.home / "log"
        self.environment = ENVIRONMENT
        # Greatest resident memory of all its processes that ended, in bytes.
        self.peak = 0

    def start(self) -> float:
        """Runs it until it says that it can be reached; the seconds that took."""
        began = time.monotonic()
        with self.log_file.open("a") as log:
            self.process = subprocess.Popen(
                command(self.home, "run", inside=self.inside),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment,
            )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Failed(f"node {self.name} does not start:\n{self.log()}")
        return time.monotonic() - began

    def end(self, number: signal.Signals) -> int:
        """Signals the process and waits for it; its exit status, negative for a signal."""
        self.memory()
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
        return p2pdb(self.home, "index", table, "--peer", self.address, inside=self.inside)["buckets"]

    def memory(self) -> int:
        """The greatest resident memory so far, in bytes."""
        if self.process and self.process.poll() is None:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            # One that is just ending has none.
            if "VmHWM:" in status:
                self.peak = max(self.peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        return self.peak

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:]
