from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from p2pdb_client import AsyncClient, Client, GatewayNotRunning, Problem, SpaceChanged
from p2pdb_client.http import find
from p2pdb_client.login import Challenge

from .daemon import Swarm, run


class Posting(Swarm):
    def test_what_is_put_is_mined_sent_and_read(self) -> None:
        db = self.client()
        for content in ("grüße", b"\x00\xff", {"a": [1, None]}, None, 0):
            job = db.put("notes", content, recipients=["me"], author="ann")
            states = [step.state for step in db.watch(job.id)]
            self.assertEqual(states[-1], "stored")
            self.assertEqual(db.job(job.id).nodes, [self.node.ready["peer"]])
            (entry,) = db.get("notes", id=[job.id], raw=1).entries
            self.assertEqual((entry.content, entry.author, entry.is_readable), (content, "ann", True))
            self.assertIsNotNone(entry.raw)

    def test_pages_and_changes_go_on_behind_their_cursor(self) -> None:
        db = self.client()
        start = db.changes("notes", cursor="now").next
        for number in range(5):
            db.put("notes", number, recipients=["ann"], wait=30)
        read = [entry.content for entry in db.entries("notes", cursor=start, limit=2)]
        self.assertEqual(read, [0, 1, 2, 3, 4])

    def test_a_second_user_follows_live_and_a_third_cannot_read(self) -> None:
        db = self.client()
        card = run(self.home, "table", "share", "notes", "-", "--with", "post")
        pem = run(self.make_home("bob"), "key", "export", "bob")
        homes = {"bob": self.home.parent / "bob", "eve": self.make_home("eve")}
        daemons = {name: self.start(home) for name, home in homes.items()}
        for daemon in daemons.values():
            self.addCleanup(daemon.stop)
        users = {name: self.client(home) for name, home in homes.items()}
        for user in users.values():
            user.import_card("shared", card)
        live = users["bob"].follow("shared")
        job = db.put("notes", "for bob", recipients=[pem], wait=30)
        mine = next(entry for entry in live if entry.id == job.id)
        self.assertEqual((mine.content, mine.opened_by), ("for bob", "bob"))
        other = next(entry for entry in users["eve"].follow("shared") if entry.id == job.id)
        self.assertEqual((other.content, other.is_readable), (None, False))

    def test_a_repeated_put_is_one_entry(self) -> None:
        db = self.client()
        jobs = {db.put("notes", "once", ["me"], idempotency_key="one").id for _ in range(3)}
        self.assertEqual(len(jobs), 1)
        with self.assertRaises(Problem) as caught:
            db.put("notes", "twice", ["me"], idempotency_key="one")
        self.assertEqual((caught.exception.status, caught.exception.type), (422, "key-reused"))
        self.assertTrue(caught.exception.fix)

    def test_asyncio(self) -> None:
        async def work() -> object:
            db = AsyncClient(home=str(self.home))
            job = await db.put("notes", "async", recipients=["me"])
            async for step in db.watch(job.id):
                state = step.state
            async for entry in db.follow("notes"):
                if entry.id == job.id:
                    return state, entry.content
            return None

        self.assertEqual(asyncio.run(work()), ("stored", "async"))


    def test_followers_hold_up_neither_calls_nor_the_end(self) -> None:
        async def work() -> None:
            # One thread for all calls: a follower that took it would be the last one.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            db = AsyncClient(home=str(self.home))

            async def follow() -> None:
                async for _ in db.follow("notes", cursor="now"):
                    pass

            followers = [asyncio.create_task(follow()) for _ in range(8)]
            for _ in range(3):
                await asyncio.wait_for(db.get("notes"), 20)
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

        asyncio.run(work())


class Following(Swarm):
    def test_a_stream_outlives_the_daemon(self) -> None:
        db = self.client()
        db.put("notes", 0, ["me"], wait=30)
        live = db.follow("notes")
        self.assertEqual(next(live).content, 0)
        type(self).daemon.stop(kill=True)
        type(self).daemon = self.start(self.home)
        self.client().put("notes", 1, ["me"], wait=30)
        self.assertEqual([entry.content for entry in itertools.islice(live, 1)], [1])


    def test_a_follower_is_told_that_the_space_has_another_table(self) -> None:
        db = self.client()
        other = self.make_home("other")
        for table in ("first", "second"):
            run(other, "table", "new", table, "--bits", "2048")
        share = ("table", "share", "-", "--with", "post")
        first, second = (run(other, *share[:2], table, *share[2:]) for table in ("first", "second"))
        db.import_card("board", first)
        live = db.follow("board")
        db.put("board", "of the first", ["me"])
        self.assertEqual(next(live).content, "of the first")
        db.import_card("board", second)
        db.put("board", "of the second", ["me"])
        with self.assertRaises(SpaceChanged):
            next(live)
        self.assertEqual(next(db.follow("board")).content, "of the second")


class Finding(unittest.TestCase):
    def test_what_is_given_goes_first_and_tokens_of_a_home_stay_with_its_daemon(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            gateway = Path(directory) / "gateway"
            gateway.mkdir()
            (gateway / "url").write_text("http://127.0.0.1:1\n")
            (gateway / "token").write_text("owner\n")
            of_home = ("http://127.0.0.1:1", "owner")
            environment = {
                "P2PDB_GATEWAY_URL": "http://127.0.0.1:2",
                "P2PDB_GATEWAY_TOKEN": "app",
                "P2PDB_HOME": directory,
            }
            with mock.patch.dict(os.environ, environment):
                self.assertEqual(find(None, None, None), ("http://127.0.0.1:2", "app"))
                self.assertEqual(find(None, None, directory), of_home)
                self.assertEqual(find("http://127.0.0.1:3", "x", None), ("http://127.0.0.1:3", "x"))
                self.assertEqual(find("http://127.0.0.1:1/", None, None), of_home)
                with self.assertRaises(ValueError):
                    find("http://127.0.0.1:3", None, None)
            with mock.patch.dict(os.environ, {"P2PDB_GATEWAY_URL": "http://127.0.0.1:2", "P2PDB_HOME": directory}):
                with self.assertRaises(ValueError):
                    find(None, None, None)


class Methods(unittest.TestCase):
    def test_what_has_no_cursor_is_one_page(self) -> None:
        db = Client(url="http://127.0.0.1:1", token="x")
        answer = {"entries": [], "more": True}
        with mock.patch("p2pdb_client.http.Http.call", side_effect=[answer, AssertionError("asked again")]):
            self.assertEqual(list(db.entries("notes", mode="remote")), [])

    def test_asyncio_has_them_all(self) -> None:
        sync, asynchronous = ({name for name in vars(of) if name[0] != "_"} for of in (Client, AsyncClient))
        self.assertEqual(asynchronous, sync)


class LoggingIn(Swarm):
    def test_a_key_is_a_login_for_one_origin_once(self) -> None:
        owner = self.client()
        (key,) = owner.keys()
        origin = "http://localhost:5000"
        token = owner.make_token("forum", [], ["login"], origin=origin)
        app = Client(url=self.daemon.ready["url"], token=token)
        challenge = Challenge.make(key["public_key"], origin)
        self.assertEqual(challenge.key_id, key["id"])
        answer = app.login("ann", challenge.text)
        self.assertTrue(challenge.is_answered_by(answer))
        self.assertFalse(challenge.is_answered_by(answer), "a challenge is used up")
        wrong = Challenge.make(key["public_key"], origin)
        self.assertFalse(wrong.is_answered_by(answer))
        for bad in (challenge.text, Challenge.make(key["public_key"], "http://evil.example").text):
            with self.assertRaises(Problem) as caught:
                app.login("ann", bad)
            self.assertEqual(caught.exception.type, "bad-challenge")

    def test_no_daemon_is_said_so(self) -> None:
        with self.assertRaises(GatewayNotRunning):
            Client(home="/nowhere")
        with self.assertRaises(GatewayNotRunning):
            Client(url="http://127.0.0.1:9", token="x").status()


if __name__ == "__main__":
    unittest.main()
