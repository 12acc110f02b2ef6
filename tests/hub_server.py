"""A hub of Hugging Face on this machine: as much of its interface as an upload and a download of small files need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

TOKEN, OWNER = "hf_token", "owner"


class Hub:
    """What the server holds.

    Attributes:
        files: Content of each file of each repository.
        created: What was asked for of each repository that was created.
        asked: Method and path of every request.
        endpoint: Address of the server.
        refused: Paths that are answered with a status.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.endpoint = ""
        self.refused: dict[str, int] = {}

    def revision(self, repository: str) -> str:
        """The commit of a repository: 40 hexadecimal digits."""
        parts = [name.encode() + content for name, content in sorted(self.files[repository].items())]
        return hashlib.sha1(b"".join(parts)).hexdigest()

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any, dict[str, str]]:
        """Status, content and headers of an answer."""
        self.asked.append(f"{method} {path}")
        parts = path.strip("/").split("/")
        if refused := next((status for start, status in self.refused.items() if path.startswith(start)), 0):
            return refused, {"error": "no"}, {}
        if path == "/api/whoami-v2":
            return (200, {"name": OWNER, "type": "user", "orgs": []}, {}) if token == TOKEN else (401, {}, {})
        if path == "/api/validate-yaml":
            return self._validated(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repository not in self.files:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        if parts[0] != "api":
            return self._file(repository, "/".join(parts[4:]))
        return self._of_repository(repository, parts[4], parts[5], body)

    def _create(self, stored: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        owner = stored.get("organization") or OWNER
        if owner != OWNER:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}, {}
        name = f"{owner}/{stored['name']}"
        if name in self.files:
            return 409, {"error": "You already created this model repo"}, {}
        self.files[name], self.created[name] = {}, stored
        return 200, {"url": f"{self.endpoint}/{name}"}, {}

    @staticmethod
    def _validated(card: str) -> tuple[int, Any, dict[str, str]]:
        if "license: no-such-licence" in card:
            return 400, {"errors": [{"message": '"license" must be one of ...'}], "warnings": []}, {}
        return 200, {"errors": [], "warnings": []}, {}

    def _of_repository(self, repository: str, kind: str, revision: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        own = self.files[repository]
        if kind == "preupload":
            files = [one["path"] for one in json.loads(body)["files"]]
            return 200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in files]}, {}
        if kind == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    own[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return (
                200,
                {
                    "commitUrl": f"{self.endpoint}/{repository}/commit/{self.revision(repository)}",
                    "commitOid": self.revision(repository),
                },
                {},
            )
        if revision not in ("main", self.revision(repository)):
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        if kind == "revision":
            return 200, {"id": repository, "sha": self.revision(repository), "siblings": []}, {}
        sizes = [{"type": "file", "path": name, "size": len(c), "oid": _etag(c)} for name, c in own.items()]
        return 200, sizes, {}

    def _file(self, repository: str, name: str) -> tuple[int, Any, dict[str, str]]:
        content = self.files[repository].get(name)
        if content is None:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
        return 200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": self.revision(repository)}


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        status, content, headers = self.hub.answer(self.command, urlsplit(self.path).path, body, token)
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    do_GET = do_POST = do_HEAD = _answer

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub that the client of Hugging Face asks in this process, with a cache and a login of its own."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = endpoint = f"http://127.0.0.1:{server.server_port}"
    constants = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "token"),
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
