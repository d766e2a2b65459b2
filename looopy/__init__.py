"""looopy: a reactive agent loop. Ask a model, run the tools it calls, ask again, until it answers; everything that happens is an event."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from looopy.agent import AgentLoop, Session
from looopy.errors import (
    AuthenticationFailed,
    BufferOverflow,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    LimitExceeded,
    LooopyError,
    MissingExtra,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    NotResumable,
    ProxyUnreachable,
    StoreFailed,
    StreamBroken,
    TaskCanceled,
    ToolFailed,
    ToolSchemaError,
    UnknownModel,
    UnsupportedParameter,
)
from looopy.events import Event, LLMResponse, dumps, loads
from looopy.messages import FilePart, Message, Usage
from looopy.ports import (
    Embedder,
    Embeddings,
    EmbedRequest,
    LLMProvider,
    LLMRequest,
    ToolContext,
    ToolDefinition,
    ToolProvider,
)
from looopy.prompts import ManagedPrompt
from looopy.run import Run, RunResult
from looopy.setup import Limits
from looopy.stores.memory import InMemoryArtifactStore, InMemoryStateStore

if TYPE_CHECKING:
    from looopy.providers.capabilities import Capabilities
    from looopy.providers.catalogue import Tokens
    from looopy.providers.embeddings import LiteLLMEmbedder
    from looopy.providers.fallback import Fallback
    from looopy.providers.library import LiteLLMLibraryProvider
    from looopy.providers.litellm import LiteLLMProvider, Timeouts
    from looopy.providers.local_proxy import LocalProxy
    from looopy.providers.presets import LiteLLM
    from looopy.providers.prices import Prices, cost_of
    from looopy.providers.retry import Retry
    from looopy.testing.standin import StandInProvider
    from looopy.tools.function import tool
    from looopy.usage import UsageReport, UsageRow

_AT_FIRST_USE = {
    "Capabilities": "looopy.providers.capabilities",
    "Fallback": "looopy.providers.fallback",
    "LiteLLM": "looopy.providers.presets",
    "LiteLLMEmbedder": "looopy.providers.embeddings",
    "LiteLLMLibraryProvider": "looopy.providers.library",
    "LiteLLMProvider": "looopy.providers.litellm",
    "LocalProxy": "looopy.providers.local_proxy",
    "Prices": "looopy.providers.prices",
    "Retry": "looopy.providers.retry",
    "StandInProvider": "looopy.testing.standin",
    "Timeouts": "looopy.providers.litellm",
    "Tokens": "looopy.providers.catalogue",
    "UsageReport": "looopy.usage",
    "UsageRow": "looopy.usage",
    "cost_of": "looopy.providers.prices",
    "tool": "looopy.tools.function",
}


def __getattr__(name: str) -> object:
    """What needs the HTTP client or the docstring parser is loaded when it is first used, not with `import looopy`."""
    if name not in _AT_FIRST_USE:
        raise AttributeError(f"module 'looopy' has no attribute {name!r}")
    return getattr(import_module(_AT_FIRST_USE[name]), name)


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "AgentLoop",
    "AuthenticationFailed",
    "BufferOverflow",
    "Capabilities",
    "ConfigurationError",
    "ContentRefused",
    "ContextTooLong",
    "EmbedRequest",
    "Embedder",
    "Embeddings",
    "Event",
    "Fallback",
    "FilePart",
    "InMemoryArtifactStore",
    "InMemoryStateStore",
    "LLMProvider",
    "LLMRequest",
    "LLMResponse",
    "LimitExceeded",
    "Limits",
    "LiteLLM",
    "LiteLLMEmbedder",
    "LiteLLMLibraryProvider",
    "LiteLLMProvider",
    "LocalProxy",
    "LooopyError",
    "ManagedPrompt",
    "Message",
    "MissingExtra",
    "ModelError",
    "ModelFailed",
    "ModelOverloaded",
    "ModelRejected",
    "ModelTimeout",
    "NotResumable",
    "Prices",
    "ProxyUnreachable",
    "Retry",
    "Run",
    "RunResult",
    "Session",
    "StandInProvider",
    "StoreFailed",
    "StreamBroken",
    "TaskCanceled",
    "Timeouts",
    "Tokens",
    "ToolContext",
    "ToolDefinition",
    "ToolFailed",
    "ToolProvider",
    "ToolSchemaError",
    "UnknownModel",
    "UnsupportedParameter",
    "Usage",
    "UsageReport",
    "UsageRow",
    "cost_of",
    "dumps",
    "loads",
    "tool",
]
