"""A node and daemons of the built program, in homes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Optional

from p2pdb_client import Client


class Program:
    """A long-running command that tells in one line of JSON that it is ready."""

    def __init__(self, home: Path, *args: str) -> None:
        self.process = subprocess.Popen(
            [binary(), "--home", str(home), *args, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def stop(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def binary() -> str:
    return os.environ["P2PDB_BIN"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("P2PDB_")}


def run(home: Path, *args: str) -> str:
    done = subprocess.run(
        [binary(), "--home", str(home), *args], check=True, capture_output=True, text=True, env=environment()
    )
    return done.stdout


class Swarm(unittest.TestCase):
    """A node, and the daemon of a user who has a table and the key `ann`."""

    node: Program
    daemon: Program
    home: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        root = Path(cls.directory.name)
        cls.addClassCleanup(cls.directory.cleanup)
        run(root / "node", "init", "--dev")
        cls.node = Program(
            root / "node", "run", "--listen", "/ip4/127.0.0.1/tcp/0", "--set", "nat.upnp=false"
        )
        cls.addClassCleanup(cls.node.stop)
        cls.home = cls.make_home("ann")
        run(cls.home, "table", "new", "notes", "--bits", "2048")
        cls.daemon = cls.start(cls.home)
        cls.addClassCleanup(lambda: cls.daemon.stop())

    @classmethod
    def make_home(cls, user: str) -> Path:
        home = Path(cls.directory.name) / user
        run(home, "init", "--dev")
        run(home, "key", "new", user, "--bits", "2048")
        return home

    @classmethod
    def start(cls, home: Path, listen: str = "127.0.0.1:0") -> Program:
        peer = cls.node.ready["addresses"][0]
        return Program(home, "gateway", "--listen", listen, "--peer", peer)

    def client(self, home: Optional[Path] = None) -> Client:
        return Client(home=str(home or self.home))
