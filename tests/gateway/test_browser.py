"""Foreign pages in a real browser get nowhere; the daemon's own page works, without JavaScript."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Browser
from nodes import p2pdb, wait_for

ATTACK = (Path(__file__).parent / "attack.js").read_text()


class Server(ThreadingHTTPServer):
    """The server of a foreign page; and, as a target, one without any guard, which takes whatever it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever).start()


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.taken.append((self.command, self.path))
        stream = "text/event-stream" in self.headers.get("Accept", "")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "text/html")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*, Authorization")
        self.send_header("Access-Control-Allow-Methods", "*")
        self.end_headers()
        if self.command != "OPTIONS":
            self.wfile.write(b"data: 1\n\n" if stream else b"<title>foreign</title>")

    do_GET = do_POST = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def foreign() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    browser = Browser(**getattr(request, "param", {}))
    yield browser
    browser.close()


@pytest.fixture
def daemon(swarm, start, request):
    home = swarm.user(request.node.name, key="me")
    p2pdb(home, "table", "new", "board", "--bits", "2048")
    return start(home)


def came_of(browser: Browser, page: str, target: str, token: str) -> dict[str, str]:
    browser.open(page)
    return browser.run(ATTACK, target, token)


@pytest.mark.parametrize("name", ["evil.localhost", "127.0.0.1"])
def test_foreign_pages_get_nowhere(daemon, foreign, browser, name):
    page = f"http://{name}:{foreign.server_port}/"
    # The same attacks arrive at a server without guards.
    unguarded = Server()
    try:
        came = came_of(browser, page, f"http://127.0.0.1:{unguarded.server_port}", daemon.token)
    finally:
        unguarded.shutdown()
        unguarded.server_close()
    assert came.pop("socket") == "refused", "which that server does not speak"
    assert "refused" not in {came[attack] for attack in came if attack not in ("image", "script", "stylesheet")}, came
    posts = {path for method, path in unguarded.taken if method == "POST"}
    assert {"/v1/put?by=form", "/v1/put?by=simple", "/v1/put?by=preflight", "/v1/put?by=token"} <= posts
    browser.answers(daemon.host)

    came = came_of(browser, page, daemon.url, daemon.token)
    answers = browser.answers(daemon.host)
    # A form and an unseen fetch are sent; what comes back is a refusal that the page cannot tell from an answer.
    blind = {"form", "text form", "multipart form", "simple post", "get unseen", "frame"}
    assert {attack: how for attack, how in came.items() if attack not in blind} == dict.fromkeys(
        came.keys() - blind, "refused"
    )
    # The browser does not tell of answers that it keeps from the page in other ways.
    assert {"/v1/put", "/v1/get", "/v1/spaces/board", "/v1/status", "/page/0"} <= {path for path, _ in answers}
    assert {status for _, status in answers} == {403}, answers
    # Nor when the user follows a link of theirs.
    browser.run("location = arguments[0]; arguments[1]();", f"{daemon.url}/openapi.json")
    wait_for("the link is followed", lambda: browser.url().startswith(daemon.url), 30)
    assert "foreign-origin" in browser.text()
    assert daemon.ask("GET", "/v1/jobs") == {"jobs": []}
    assert daemon.ask("GET", "/v1/spaces/board")["name"] == "board"


def test_a_name_that_is_bent_to_this_machine_gets_nowhere(daemon, browser):
    port = daemon.host.split(":")[1]
    rebound = f"http://rebound.example:{port}"
    for path in ("/health", "/v1/status", "/openapi.json", f"/?{daemon.page.split('?')[1]}"):
        browser.open(rebound + path)
        assert "wrong-host" in browser.text(), path
    # To the browser, a page of that name is of the same origin as the daemon, and was loaded before the name was bent.
    browser.ask(
        "POST", f"{browser.session}/goog/cdp/execute", {"cmd": "Page.setBypassCSP", "params": {"enabled": True}}
    )
    browser.open(rebound)
    came = browser.run(ATTACK, rebound, daemon.token)
    assert came["get with a stolen token"] == came["post with a stolen token"] == "read 421"
    answers = browser.answers(f"rebound.example:{port}")
    assert answers and {status for _, status in answers} == {421}, answers
    assert daemon.ask("GET", "/v1/jobs") == {"jobs": []}
    # The link was not used up by that.
    browser.open(daemon.page)
    assert browser.text("h1") == "p2pdb"


@pytest.mark.parametrize("browser", [{"javascript": False}], indirect=True)
def test_the_page_works_without_javascript(swarm, daemon, browser, out):
    for text in ("Shopping: bread, butter & <b>jam</b>", "Grüße aus Köln"):
        put = {"space": "board", "recipients": ["me"], "content": {"text": text}}
        daemon.ask("POST", "/v1/put?wait=stored", put)
    pem = p2pdb(swarm.user("friend"), "key", "show", "friend")["public_key"]
    daemon.ask("POST", "/v1/put?wait=stored", {"space": "board", "recipients": [pem], "content": {"text": "secret"}})
    daemon.ask("POST", "/v1/put", {"space": "board", "recipients": ["me"], "content": {"text": "on its way"}})
    browser.open("data:text/html,<title>off</title><script>document.title = 'on'</script>")
    assert browser.ask("GET", f"{browser.session}/title") == "off"
    browser.open(daemon.page)
    assert "once=" not in browser.url()
    text = browser.text()
    browser.screenshot(out / "page.png")
    for part in ("Shopping: bread, butter & <b>jam</b>", "Grüße aus Köln", "not for you", "stored at", "board"):
        assert part in text, text
    assert "Connected with" in text and "secret" not in text
    browser.click("card")
    browser.screenshot(out / "card.png")
    assert "The card of board" in browser.text()
    # Off the screen, it is the card that `table share` writes.
    scanned = subprocess.run(["zbarimg", "--quiet", "--raw", out / "card.png"], capture_output=True, text=True).stdout
    card = daemon.home / "scanned.toml"
    card.write_text(scanned)
    shared = p2pdb(daemon.home, "table", "share", "board", daemon.home / "shared.toml")
    assert p2pdb(swarm.user("scanner"), "table", "import", card)["id"] == shared["table"]
    browser.click("back")
    assert browser.text("h1") == "p2pdb"
    # The link works once, also for the browser that opened it.
    browser.open(daemon.page)
    assert "no-token" in browser.text()
