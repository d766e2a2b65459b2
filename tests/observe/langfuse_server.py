"""Langfuse's public API as far as looopy and the `langfuse` package use it, on a loopback port; it keeps what it is told.

with LangfuseServer() as server:
    account = server.account()          # a key of its own: the package keeps one client for each key in a process
    ...
    assert server.scores == [...]
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import uuid
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from looopy.observe.langfuse import Account
from observe.receiver import SECONDS, Span, decode_spans

PROJECT = "prj-1"


class LangfuseServer:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._spans: list[Span] = []
        self._script: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.always: tuple[int, dict[str, str], bytes] | None = None
        self.scores: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.keys: set[str] = set()

    def __enter__(self) -> Self:
        outer = self

        class Connection(_Connection):
            langfuse = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def account(self, **fields: Any) -> Account:
        """An account that the server knows, of a key that nothing else in this process uses."""
        name = uuid.uuid4()
        account = Account(public_key=f"pk-lf-{name}", secret_key=f"sk-lf-{name}", base_url=self.url, **fields)
        self.keys.add(account.headers["Authorization"])
        return account

    def answers(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        """Answer the next request so."""
        self._script.append((status, {name.replace("_", "-"): text for name, text in headers.items()}, body))

    @property
    def spans(self) -> list[Span]:
        with self._changed:
            return list(self._spans)

    def wait(self, *, spans: int = 0, scores: int = 0) -> list[Span]:
        """Wait until so many came; bounded."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: len(self._spans) >= spans and len(self.scores) >= scores, SECONDS
            )
            assert reached, f"{[span.name for span in self._spans]}, {self.scores}"
            return list(self._spans)

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        with self._changed:
            self.asked.append((method, path))
            self.headers.append(headers)
            scripted = self._script.popleft() if self._script else self.always
            if scripted is not None:
                return scripted
            if headers.get("authorization") not in self.keys:
                return (
                    401,
                    {},
                    b'{"message": "Invalid credentials. Confirm that you have configured the right host."}',
                )
            match method, path:
                case "POST", "/api/public/otel/v1/traces":
                    self._spans += decode_spans(body)
                case "POST", "/api/public/scores":
                    said = json.loads(body)
                    self.scores += said if isinstance(said, list) else [said]
                case "GET", "/api/public/projects":
                    project = {
                        "id": PROJECT,
                        "name": "p",
                        "metadata": {},
                        "organization": {"id": "o", "name": "o"},
                    }
                    return 200, {}, json.dumps({"data": [project]}).encode()
                case _:
                    return 404, {}, b"{}"
            self._changed.notify_all()
            return (
                (202, {}, b'{"message": "Accepted"}') if body.startswith(b"[") else (200, {}, b'{"id": "x"}')
            )


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    langfuse: LangfuseServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test reads what was kept."""

    def _serve(self) -> None:
        wire = self.rfile.read(int(self.headers.get("content-length", "0")))
        body = gzip.decompress(wire) if self.headers.get("content-encoding") == "gzip" else wire
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, more, answer = self.langfuse.answer(self.command, self.path.partition("?")[0], headers, body)
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            **more,
            "content-length": str(len(answer)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()


def login(account: Account) -> str:
    """What Basic authentication shows."""
    return base64.b64decode(account.headers["Authorization"].removeprefix("Basic ")).decode()
