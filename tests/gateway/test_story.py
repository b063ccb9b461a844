"""Fifteen lines of Python post; who they are for reads, live and later; a third sees that something was posted."""

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

from nodes import p2pdb, wait_for

PROGRAM = Path(__file__).parents[2] / "deploy/webapps/python/examples/board.py"


def test_fifteen_lines_post_and_only_the_recipient_reads(swarm, start):
    homes = {name: swarm.user(name) for name in ("ann", "bob", "eve")}
    p2pdb(homes["ann"], "table", "new", "board", "--bits", "2048")
    # Everybody is handed the card that lets its holders post.
    card = swarm.directory / "board.toml"
    p2pdb(homes["ann"], "table", "share", "board", card, "--with", "post")
    for name in ("bob", "eve"):
        p2pdb(homes[name], "table", "import", card, "--name", "board")
    pem = swarm.directory / "bob.pem"
    pem.write_text(
        subprocess.check_output([os.environ["P2PDB"], "--home", homes["bob"], "key", "export", "bob"], text=True)
    )
    p2pdb(homes["ann"], "key", "import", "bob", pem)
    ann, bob, eve = (start(homes[name]) for name in ("ann", "bob", "eve"))

    assert len(PROGRAM.read_text().splitlines()) <= 15
    headers = {"Authorization": f"Bearer {bob.token}", "Accept": "text/event-stream"}
    live = urllib.request.urlopen(
        urllib.request.Request(f"{bob.url}/v1/changes?space=board", None, headers), timeout=60
    )
    environment = {**os.environ, "P2PDB_GATEWAY_URL": ann.url, "P2PDB_GATEWAY_TOKEN": ann.token}
    program = subprocess.Popen(
        [os.environ["APP_PYTHON"], PROGRAM, "board", "hello, Bob", "bob", "ann"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        # It prints what it posted when it comes back to it.
        assert program.stdout.readline().endswith("hello, Bob\n")
    finally:
        program.kill()
    said = program.communicate()[1]
    solved = [int(number) for number in re.findall(r"Progress\(solved=(\d+), of=32", said)]
    assert len(set(solved)) > 1 and solved == sorted(solved), said
    assert re.search(r"^stored \['12D3Koo", said, re.MULTILINE), said

    # The first event only says where the stream begins.
    event = next(json.loads(line[6:]) for line in live if line.startswith(b"data: ") and line != b"data: {}\n")
    live.close()
    (entry,) = wait_for("Bob's daemon has it", lambda: bob.entries("space=board&recipient=me"), 30)
    assert event == entry
    assert entry["content"] == {"type": "text/plain; charset=utf-8", "text": "hello, Bob"}
    assert entry["opened_by"]["name"] == "bob"
    (sealed,) = wait_for("Eve's daemon has it", lambda: eve.entries("space=board"), 30)
    assert sealed["id"] == entry["id"]
    assert "content" not in sealed and "hello" not in json.dumps(sealed)
    assert eve.entries("space=board&recipient=me") == []
    assert all(len(node.index(ann.ask("GET", "/v1/spaces/board")["table"])) == 1 for node in swarm.nodes)
