"""Chromium without a window, by the WebDriver protocol and nothing but the standard library."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from nodes import free_port, wait_for

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync"
    " --disable-background-networking --disable-component-update --disable-default-apps --window-size=1000,1400"
).split()


class Browser:
    """One browser with a profile of its own, that knows the host `rebound.example` as this machine."""

    def __init__(self, javascript: bool = True):
        self.profile = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for("chromedriver answers", self.is_ready, 30)
        # Nothing but this machine can be reached.
        rules = "MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.localhost"
        options = {
            "args": [*FLAGS, f"--user-data-dir={self.profile.name}", f"--host-resolver-rules={rules}"],
            "prefs": {} if javascript else {"profile.managed_default_content_settings.javascript": 2},
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{made['sessionId']}"

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/status")["ready"]
        except OSError:
            return False

    def ask(self, method: str, path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str):
        self.ask("POST", f"{self.session}/url", {"url": url})

    def url(self) -> str:
        return self.ask("GET", f"{self.session}/url")

    def text(self, selector: str = "body") -> str:
        """What a person sees of an element."""
        using = {"using": "css selector", "value": selector}
        (element,) = self.ask("POST", f"{self.session}/element", using).values()
        return self.ask("GET", f"{self.session}/element/{element}/text")

    def click(self, link: str):
        using = {"using": "link text", "value": link}
        (element,) = self.ask("POST", f"{self.session}/element", using).values()
        self.ask("POST", f"{self.session}/element/{element}/click", {})

    def run(self, script: str, *arguments: object):
        """What an asynchronous script hands to the last of its arguments."""
        return self.ask("POST", f"{self.session}/execute/async", {"script": script, "args": list(arguments)})

    def screenshot(self, file: Path):
        file.write_bytes(base64.b64decode(self.ask("GET", f"{self.session}/screenshot")))

    def answers(self, host: str) -> list[tuple[str, int]]:
        """Path and status of what this host has answered since the last call, preflights included."""
        seen = []
        for line in self.ask("POST", f"{self.session}/se/log", {"type": "performance"}):
            message = json.loads(line["message"])["message"]
            parameters = message["params"]
            if message["method"] == "Network.responseReceived":
                url, status = parameters["response"]["url"], parameters["response"]["status"]
            elif message["method"] == "Network.webSocketHandshakeResponseReceived":
                url, status = "ws://" + host + "/websocket", parameters["response"]["status"]
            else:
                continue
            if urlsplit(url).netloc == host:
                seen.append((urlsplit(url).path, status))
        return seen

    def close(self):
        try:
            self.ask("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(30)
            self.profile.cleanup()
