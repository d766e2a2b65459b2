"""Tools for testing agents: scripted models and servers, virtual time, marble diagrams, contract suites.

They are public: a project that uses looopy tests its agents with them. They need no test framework and no network.
"""

from __future__ import annotations

from looopy.testing.model import ScriptedModel
from looopy.testing.script import Answer, ScriptOver, calls, cuts, fails, raw, says, stalls, thinks, waits
from looopy.testing.server import Received, ScriptedServer
from looopy.testing.wire import sse

__all__ = [
    "Answer",
    "Received",
    "ScriptOver",
    "ScriptedModel",
    "ScriptedServer",
    "calls",
    "cuts",
    "fails",
    "raw",
    "says",
    "sse",
    "stalls",
    "thinks",
    "waits",
]
