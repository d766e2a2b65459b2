"""looopy: a reactive agent loop. Ask a model, run the tools it calls, ask again, until it answers; everything that happens is an event."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from looopy.agent import AgentLoop, Session
from looopy.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    BufferOverflow,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    ExtractionFailed,
    LimitExceeded,
    LooopyError,
    MissingExtra,
    ModelError,
    ModelFailed,
    ModelOverloaded,
    ModelRejected,
    ModelTimeout,
    NotResumable,
    OutputInvalid,
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
from looopy.extract import Extracted, extract_code_block, extract_json
from looopy.messages import FilePart, Message, Usage
from looopy.output import Output
from looopy.partials import partials
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
    from looopy.providers.budget import Budget
    from looopy.providers.cache import Cache
    from looopy.providers.capabilities import Capabilities
    from looopy.providers.catalogue import Tokens
    from looopy.providers.embeddings import LiteLLMEmbedder
    from looopy.providers.fallback import Fallback
    from looopy.providers.hedge import Hedge
    from looopy.providers.library import LiteLLMLibraryProvider
    from looopy.providers.limiter import Limiter
    from looopy.providers.litellm import LiteLLMProvider, Timeouts
    from looopy.providers.load_balance import LoadBalance
    from looopy.providers.local_proxy import LocalProxy
    from looopy.providers.meter import Meter
    from looopy.providers.presets import LiteLLM
    from looopy.providers.prices import Prices, cost_of
    from looopy.providers.rate_limit import RateLimit
    from looopy.providers.retry import Retry
    from looopy.providers.route import Route
    from looopy.providers.tuned import Tuned
    from looopy.stores.answers import MemoryCache, RedisCache, SQLiteCache
    from looopy.testing.standin import StandInProvider
    from looopy.tools.client import ClientTools
    from looopy.tools.function import tool
    from looopy.usage import UsageReport, UsageRow

_AT_FIRST_USE = {
    "Budget": "looopy.providers.budget",
    "Cache": "looopy.providers.cache",
    "Capabilities": "looopy.providers.capabilities",
    "ClientTools": "looopy.tools.client",
    "Fallback": "looopy.providers.fallback",
    "Hedge": "looopy.providers.hedge",
    "Limiter": "looopy.providers.limiter",
    "LiteLLM": "looopy.providers.presets",
    "LiteLLMEmbedder": "looopy.providers.embeddings",
    "LiteLLMLibraryProvider": "looopy.providers.library",
    "LiteLLMProvider": "looopy.providers.litellm",
    "LoadBalance": "looopy.providers.load_balance",
    "LocalProxy": "looopy.providers.local_proxy",
    "MemoryCache": "looopy.stores.answers",
    "Meter": "looopy.providers.meter",
    "Prices": "looopy.providers.prices",
    "RateLimit": "looopy.providers.rate_limit",
    "RedisCache": "looopy.stores.answers",
    "Retry": "looopy.providers.retry",
    "Route": "looopy.providers.route",
    "SQLiteCache": "looopy.stores.answers",
    "StandInProvider": "looopy.testing.standin",
    "Timeouts": "looopy.providers.litellm",
    "Tokens": "looopy.providers.catalogue",
    "Tuned": "looopy.providers.tuned",
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
    "Budget",
    "BudgetExceeded",
    "BufferOverflow",
    "Cache",
    "Capabilities",
    "ClientTools",
    "ConfigurationError",
    "ContentRefused",
    "ContextTooLong",
    "EmbedRequest",
    "Embedder",
    "Embeddings",
    "Event",
    "Extracted",
    "ExtractionFailed",
    "Fallback",
    "FilePart",
    "Hedge",
    "InMemoryArtifactStore",
    "InMemoryStateStore",
    "LLMProvider",
    "LLMRequest",
    "LLMResponse",
    "LimitExceeded",
    "Limiter",
    "Limits",
    "LiteLLM",
    "LiteLLMEmbedder",
    "LiteLLMLibraryProvider",
    "LiteLLMProvider",
    "LoadBalance",
    "LocalProxy",
    "LooopyError",
    "ManagedPrompt",
    "MemoryCache",
    "Message",
    "Meter",
    "MissingExtra",
    "ModelError",
    "ModelFailed",
    "ModelOverloaded",
    "ModelRejected",
    "ModelTimeout",
    "NotResumable",
    "Output",
    "OutputInvalid",
    "Prices",
    "ProxyUnreachable",
    "RateLimit",
    "RedisCache",
    "Retry",
    "Route",
    "Run",
    "RunResult",
    "SQLiteCache",
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
    "Tuned",
    "UnknownModel",
    "UnsupportedParameter",
    "Usage",
    "UsageReport",
    "UsageRow",
    "cost_of",
    "dumps",
    "extract_code_block",
    "extract_json",
    "loads",
    "partials",
    "tool",
]
