"""Tools for testing agents: scripted models, servers and tools, virtual time, marble diagrams, contract suites.

They are public: a project that uses looopy tests its agents with them. They need no test framework, no key and no network.
"""

from __future__ import annotations

from looopy.testing.cassette import CassetteMismatch, Recorded, Replayed, cassette
from looopy.testing.clock import Deadlock, VirtualLoop, run_virtual
from looopy.testing.contract import ContractBroken
from looopy.testing.embeddings import embeds, vector_of
from looopy.testing.marbles import Cold, Marbles
from looopy.testing.model import ScriptedModel
from looopy.testing.model_contract import LLMRig, check_llm_provider, llm_provider_contract
from looopy.testing.script import Answer, ScriptOver, calls, cuts, fails, raw, says, stalls, thinks, waits
from looopy.testing.server import Received, ScriptedServer
from looopy.testing.tool_contract import ToolRig, check_tool_provider, tool_provider_contract
from looopy.testing.tools import ScriptedTools
from looopy.testing.wire import sse

__all__ = [
    "Answer",
    "CassetteMismatch",
    "Cold",
    "ContractBroken",
    "Deadlock",
    "LLMRig",
    "Marbles",
    "Received",
    "Recorded",
    "Replayed",
    "ScriptOver",
    "ScriptedModel",
    "ScriptedServer",
    "ScriptedTools",
    "ToolRig",
    "VirtualLoop",
    "calls",
    "cassette",
    "check_llm_provider",
    "check_tool_provider",
    "cuts",
    "embeds",
    "fails",
    "llm_provider_contract",
    "raw",
    "run_virtual",
    "says",
    "sse",
    "stalls",
    "thinks",
    "tool_provider_contract",
    "vector_of",
    "waits",
]
