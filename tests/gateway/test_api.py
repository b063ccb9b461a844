"""The OpenAPI document is valid, and says all that the daemon answers to whatever schemathesis thinks up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nodes import p2pdb
from openapi_spec_validator import validate

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
]


@pytest.fixture
def daemon(swarm, start, request):
    home = swarm.user(request.node.name, key="api")
    p2pdb(home, "table", "new", "board", "--bits", "2048")
    return start(home)


def test_the_document_is_valid(daemon):
    document = daemon.ask("GET", "/openapi.json")
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_schemathesis_finds_nothing(daemon):
    # Something to find, so that not every answer is an error.
    put = {"space": "board", "recipients": ["me"], "content": {"text": "x"}}
    daemon.ask("POST", "/v1/put?wait=stored", put)
    document = daemon.home / "openapi.json"
    document.write_text(json.dumps(with_names(daemon.ask("GET", "/openapi.json"))))
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "run", document, "--url", daemon.url]
        + ["--header", f"Authorization: Bearer {daemon.token}", "--checks", ",".join(CHECKS)]
        + ["--max-examples", os.environ.get("EXAMPLES", "30"), "--request-timeout", "20", "--seed", "1"]
        # A stream of events has no end that could be waited for.
        + ["--exclude-path-regex", "/events$", "--no-color"],
        capture_output=True,
        text=True,
        cwd=daemon.home,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert daemon.process.poll() is None


def with_names(document: dict) -> dict:
    """The same with the space that there is, so that most requests get past its name."""
    space = {"type": "string", "enum": ["board"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "space":
                    parameter["schema"] = space
    entry = document["components"]["schemas"]["NewEntry"]["properties"]
    entry["space"] = space
    entry["recipients"] = {"type": "array", "minItems": 1, "items": {"enum": ["me", "api"]}}
    document["components"]["schemas"]["Challenge"]["properties"]["key"] = {"type": "string", "enum": ["api"]}
    return document
