"""The names on looopy's spans, and what can be said of a provider before it is asked.

The names are OpenTelemetry's GenAI semantic conventions (github.com/open-telemetry/semantic-conventions-genai), and a few of Langfuse's
where it has something without a standard twin. OBSERVABILITY.md lists all of them; a test compares.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import urlsplit

Value: TypeAlias = "str | bool | int | float | tuple[str, ...]"
Attributes: TypeAlias = "dict[str, Value]"


def joined(*some: Attributes) -> Attributes:
    """All of them in one; of two that have the same name, the later."""
    joined: Attributes = {}
    for each in some:
        joined |= each
    return joined


# Of every span.
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION: Final = "gen_ai.conversation.id"
TASK: Final = "looopy.task.id"
SESSION: Final = "session.id"
USER: Final = "user.id"
TAGS: Final = "langfuse.trace.tags"
STATUS: Final = "looopy.status"
ERROR: Final = "error.type"

# Of an agent, a model call and a tool call.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
AGENT_ID: Final = "gen_ai.agent.id"
MODEL: Final = "gen_ai.request.model"
ITERATION: Final = "looopy.iteration"
KIND: Final = "langfuse.observation.type"
PHOENIX_KIND: Final = "openinference.span.kind"
LEVEL: Final = "langfuse.observation.level"
METADATA: Final = "langfuse.trace.metadata."

# Of a model call.
STREAM: Final = "gen_ai.request.stream"
OUTPUT_TYPE: Final = "gen_ai.output.type"
STOP: Final = "gen_ai.request.stop_sequences"
ADDRESS: Final = "server.address"
PORT: Final = "server.port"
PROMPT_NAME: Final = "langfuse.observation.prompt.name"
PROMPT_VERSION: Final = "langfuse.observation.prompt.version"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
FIRST_CHUNK_AT: Final = "langfuse.observation.completion_start_time"
USAGE: Final = "gen_ai.usage."
COST: Final = "gen_ai.usage.cost"
CALL: Final = "looopy.llm.call_id"
ATTEMPTS: Final = "looopy.llm.attempts"
SERVED_BY: Final = "looopy.llm.served_by"
CACHED: Final = "looopy.llm.cached"

# Of one attempt that failed.
ATTEMPT: Final = "looopy.llm.attempt"
ATTEMPT_MODEL: Final = "looopy.llm.model"
NEXT_MODEL: Final = "looopy.llm.next_model"
DELAY: Final = "looopy.llm.retry_delay"

# Of a tool call.
TOOL: Final = "gen_ai.tool.name"
TOOL_CALL: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"

# Of a run's sums: not `gen_ai.usage.*`, which a backend would add to that of the model calls.
TOTAL: Final = "gen_ai.aggregated_usage."
TOTAL_COST: Final = "looopy.cost"
ITERATIONS: Final = "looopy.iterations"

# Content.
SYSTEM: Final = "gen_ai.system_instructions"
INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
DEFINITIONS: Final = "gen_ai.tool.definitions"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
QUESTION: Final = "input.value"
ANSWER: Final = "output.value"

# Of embeddings.
DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"
TEXTS: Final = "looopy.embeddings.texts"


def server(provider: object) -> tuple[str, int]:
    """The host and the port where a provider is reached; "" and 0 where it does not say."""
    base_url = getattr(provider, "base_url", "")
    return _server(base_url) if isinstance(base_url, str) and base_url else ("", 0)


@lru_cache(256)
def _server(base_url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(base_url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return "", 0


@lru_cache(1024)
def provider_name(model: str) -> str:
    """Who makes a model, by its name, as the conventions spell it; "litellm" for a name that says nothing.

    >>> provider_name("gpt-4o-mini"), provider_name("bedrock/claude-3-opus"), provider_name("team-model")
    ('openai', 'aws.bedrock', 'litellm')
    """
    prefix, slash, bare = model.lower().partition("/")
    if slash and prefix in _ROUTES:
        return _ROUTES[prefix]
    found = _FAMILY.match(bare if slash else prefix)
    return _FAMILIES[found.lastgroup] if found and found.lastgroup else (prefix if slash else "litellm")


_ROUTES = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "groq": "groq",
    "deepseek": "deepseek",
    "xai": "x_ai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "perplexity": "perplexity",
    "watsonx": "ibm.watsonx.ai",
    "moonshot": "moonshot_ai",
    "ollama": "ollama",
    "ollama_chat": "ollama",
}
"""LiteLLM's prefix of a model's name, and the conventions' name for who is behind it."""

_FAMILY = re.compile(
    r"(?P<openai>gpt-|chatgpt-|o[134](?:-|$)|text-embedding-[3a])|(?P<anthropic>claude)|(?P<gemini>gemini)"
    r"|(?P<mistral>mi[sx]tral|codestral)|(?P<cohere>command-|embed-)|(?P<xai>grok)|(?P<deepseek>deepseek)|(?P<moonshot>kimi|moonshot)"
)
_FAMILIES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "cohere": "cohere",
    "xai": "x_ai",
    "deepseek": "deepseek",
    "moonshot": "moonshot_ai",
}
