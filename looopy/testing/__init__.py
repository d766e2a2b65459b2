"""Tools for testing agents: scripted models and servers, virtual time, marble diagrams, contract suites.

They are public: a project that uses looopy tests its agents with them. They need no test framework and no network.
"""

from __future__ import annotations

from looopy.testing.clock import Deadlock, VirtualLoop, run_virtual
from looopy.testing.marbles import Cold, Marbles
from looopy.testing.model import ScriptedModel
from looopy.testing.script import Answer, ScriptOver, calls, cuts, fails, raw, says, stalls, thinks, waits
from looopy.testing.server import Received, ScriptedServer
from looopy.testing.wire import sse

__all__ = [
    "Answer",
    "Cold",
    "Deadlock",
    "Marbles",
    "Received",
    "ScriptOver",
    "ScriptedModel",
    "ScriptedServer",
    "VirtualLoop",
    "calls",
    "cuts",
    "fails",
    "raw",
    "run_virtual",
    "says",
    "sse",
    "stalls",
    "thinks",
    "waits",
]
