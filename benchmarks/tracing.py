"""Being watched, as the workload `tracing` is: content on the spans, sent in batches over OTLP to a receiver in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from looopy.events import Event
from looopy.loop import Execution
from looopy.observe import Instrumentation, instrument
from looopy.state import LoopState, advance
from looopy.watcher import watch_with

RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Takes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Takes)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
"""A process of its own, as a collector is, so that its CPU is not in the figures."""


@contextmanager
def receiver() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@contextmanager
def watched(url: str, *, metrics: bool) -> Iterator[Instrumentation]:
    """Tracing with content, in batches over OTLP, as a program with the variables set would have it."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRICS_EXPORTER": "otlp" if metrics else "none"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with instrument(capture_content=True) as instrumentation:
            yield instrumentation
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def blind() -> Iterator[None]:
    """The loop as it would be if it asked at no event whether anybody watches; it asks once more, when a run begins."""

    def only_advance(self: Execution, state: LoopState, event: Event) -> LoopState:
        self.state = advance(state, event)
        return self.state

    before = vars(Execution)["_advance"]
    setattr(Execution, "_advance", only_advance)  # noqa: B010
    try:
        yield
    finally:
        setattr(Execution, "_advance", before)  # noqa: B010


@contextmanager
def unwatched() -> Iterator[None]:
    """Nobody is told of the runs that begin meanwhile, as where `instrument` was never called."""
    before = watch_with(None)
    try:
        yield
    finally:
        watch_with(before)
