"""Programs that record, each in a process of its own: OpenTelemetry has one global provider for a process, set once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

TESTS = Path(__file__).parents[1]

BEGINNING = """\
import asyncio, os, sys, threading, time
from opentelemetry import trace
from looopy.observe import OTLPExporter, instrument
from observe.watched import agent, answer, calls, says

def tell(text):
    print(text, flush=True)
"""


def ran(program: str, *, seconds: float = 25, **variables: str) -> tuple[str, str]:
    """What a program says, on stdout and on stderr; it must end well."""
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "LANGFUSE_", "LITELLM_"))
    }
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGINNING + dedent(program)],
        env=known | {"PYTHONPATH": paths, "OTEL_METRICS_EXPORTER": "none"} | variables,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr
