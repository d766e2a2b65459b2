"""The real Arize Phoenix as a child process, and one run that it was sent: one of each for this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from child import Child, free_ports, python_of, started

from .spans import PROJECT, emit

START_SECONDS = 75
"""Phoenix needs about 9 s of CPU to start and to make its database; the rest is for a machine that is busy."""

READ_SECONDS = 15
"""Phoenix answers first and stores afterwards."""

QUIET = {
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    "PHOENIX_ENABLE_MCP_SERVER": "false",
    "PHOENIX_LOG_MIGRATIONS": "false",
}
"""It is to call nobody, and not to tell the 4,000 statements that make its database."""

SUMS = """
query ($trace: String!) {
  getTraceByOtelId(traceId: $trace) {
    userId
    errorCount
    costSummary { prompt { cost tokens } completion { cost tokens } total { cost tokens } }
    session { sessionId userId numTraces firstInput { value } lastOutput { value } }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Phoenix:
    """The running Phoenix, and how to ask it."""

    child: Child
    client: httpx.Client

    @property
    def endpoint(self) -> str:
        """Where it takes traces."""
        return str(self.client.base_url.join("/v1/traces"))

    def spans(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """The spans of a trace as Phoenix's REST API gives them, in the order of their beginnings."""

        def look() -> list[dict[str, Any]] | None:
            asked = {"trace_id": trace_id, "limit": 1000}
            answer = self.client.get(f"/v1/projects/{PROJECT}/spans", params=asked)
            if answer.status_code == 404:
                return None  # the project comes with its first span
            found = answer.raise_for_status().json()["data"]
            return found if len(found) >= count else None

        found = self.child.until(look, f"show {count} spans", seconds=READ_SECONDS)
        return sorted(found, key=lambda span: span["start_time"])

    def sums(self, trace_id: str) -> dict[str, Any]:
        """What Phoenix reckons for the whole trace, as its GraphQL gives it to its own pages."""
        answer = self.client.post("/graphql", json={"query": SUMS, "variables": {"trace": trace_id}})
        return answer.raise_for_status().json()["data"]["getTraceByOtelId"]

    def is_ready(self) -> bool | None:
        return self.client.get("/readyz").status_code == 200 or None


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as Phoenix gives it back."""

    spans: list[dict[str, Any]]
    sums: dict[str, Any]

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """The attributes of every span of that name."""
        return [span["attributes"] for span in self.spans if span["name"] == name]


@pytest.fixture(scope="package")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """The running Phoenix, with a database of its own."""
    python, folder = python_of("phoenix", "Arize Phoenix"), tmp_path_factory.mktemp("phoenix")
    http, grpc = free_ports(2)
    environment = {
        **QUIET,
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
    }
    with (
        started(
            "Arize Phoenix", python, "phoenix.server.main", "serve", folder=folder, environment=environment
        ) as child,
        httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=10, trust_env=False) as client,
    ):
        server = Phoenix(child, client)
        child.until(server.is_ready, "come up", seconds=START_SECONDS)
        yield server


@pytest.fixture(scope="package")
def trace(phoenix: Phoenix) -> Trace:
    """The run of `spans.py`, sent to Phoenix and read back."""
    trace_id = emit(phoenix.endpoint)
    return Trace(phoenix.spans(trace_id, count=7), phoenix.sums(trace_id))
