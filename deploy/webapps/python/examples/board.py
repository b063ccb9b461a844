"""Posts a line to a space and prints what others post: `p2pdb gateway &`, `board.py notes hello [RECIPIENT...]`."""

import sys

from p2pdb_client import Client

db = Client()
space, text, *recipients = sys.argv[1:]
job = db.put(space, text, recipients or ["me"])
for step in db.watch(job.id):
    print(step.state, step.progress or step.nodes, file=sys.stderr)
for entry in db.follow(space):
    print(entry.created, entry.content if entry.is_readable else "(not for you)", flush=True)
