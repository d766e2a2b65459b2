"""Models by name: `LiteLLM.gpt4("http://localhost:4000", key)`.

The class body is the table; each entry is called like a factory method. Names and prices move: this is what LiteLLM 1.109's map holds
(November 2026), and `LiteLLM.model(name)` takes any other. An alias on a proxy may of course stand for something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Unpack

from looopy.providers.configuration import Options
from looopy.providers.litellm import LiteLLMProvider

_RETIRED_OPENAI = "Legacy: OpenAI retired it on 2026-10-23"
_RETIRED_CLAUDE = "Legacy: Anthropic retired it, and LiteLLM no longer knows its price or abilities"


@dataclass(frozen=True)
class Preset:
    """A model's name; called, a provider for that model.

    Attributes:
        model: the name as LiteLLM knows it.
        note: what to know about it; also its docstring.
        legacy: it is kept because the name was promised; new work should take another.
    """

    model: str
    note: str
    legacy: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", f"`{self.model}`. {self.note}.")

    def __call__(
        self, base_url: str | None = None, api_key: str | None = "", **settings: Unpack[Options]
    ) -> LiteLLMProvider:
        """A provider for this model.

        Args:
            base_url: the proxy's URL; left out: LITELLM_URL.
            api_key: the key; left out: LITELLM_API_KEY. None: a proxy without authentication.
            settings: further arguments of `LiteLLMProvider`, `temperature=0.1` for example.

        Raises:
            ConfigurationError: as `LiteLLMProvider`.
        """
        return LiteLLMProvider(base_url, self.model, api_key, **settings)


class LiteLLM:
    """Providers for well-known models, all through a LiteLLM proxy."""

    # OpenAI
    gpt4 = Preset("gpt-4", _RETIRED_OPENAI, legacy=True)
    gpt4_turbo = Preset("gpt-4-turbo", _RETIRED_OPENAI, legacy=True)
    gpt35_turbo = Preset("gpt-3.5-turbo", _RETIRED_OPENAI, legacy=True)
    gpt4o = Preset("gpt-4o", "OpenAI; takes a temperature")
    gpt4o_mini = Preset("gpt-4o-mini", "OpenAI; small, takes a temperature")
    gpt41 = Preset("gpt-4.1", "OpenAI; 1M tokens of context, takes a temperature")
    gpt41_mini = Preset("gpt-4.1-mini", "OpenAI; small, 1M tokens of context, takes a temperature")
    gpt5_mini = Preset("gpt-5-mini", "OpenAI; small, reasons")
    gpt56_luna = Preset("gpt-5.6-luna", "OpenAI; reasons")
    gpt56_terra = Preset("gpt-5.6-terra", "OpenAI; reasons")
    gpt6_astra = Preset("gpt-6-astra", "OpenAI; the largest, reasons")
    gpt6_luna = Preset("gpt-6-luna", "OpenAI; the cheapest of its family, reasons")
    gpt61_sol = Preset("gpt-6.1-sol", "OpenAI; 922k tokens of context, reasons")

    # Anthropic
    claude3_opus = Preset("claude-3-opus-20240229", _RETIRED_CLAUDE, legacy=True)
    claude3_sonnet = Preset("claude-3-sonnet-20240229", _RETIRED_CLAUDE, legacy=True)
    claude3_haiku = Preset("claude-3-haiku-20240307", _RETIRED_CLAUDE, legacy=True)
    claude_fable = Preset("claude-fable-5-1", "Anthropic; the largest")
    claude_haiku = Preset("claude-haiku-5-5", "Anthropic; small, 1M tokens of context")
    claude_haiku45 = Preset("claude-haiku-4-5", "Anthropic; small, takes a temperature")
    claude_opus = Preset("claude-opus-5-5", "Anthropic; large, 1M tokens of context")
    claude_sonnet = Preset("claude-sonnet-5-5", "Anthropic; 1M tokens of context")

    # Google
    gemini_argon = Preset("gemini/gemini-4-argon", "Google; large")
    gemini_flash = Preset("gemini/gemini-3.8-flash", "Google; fast, 1M tokens of context")
    gemini_flash_latest = Preset("gemini/gemini-flash-latest", "Google; whatever flash model is newest")
    gemini_pro_latest = Preset("gemini/gemini-pro-latest", "Google; whatever pro model is newest")
    gemini25_flash = Preset("gemini/gemini-2.5-flash", "Google; fast, takes a temperature")
    gemini25_pro = Preset("gemini/gemini-2.5-pro", "Google; takes a temperature")

    # Mistral, Cohere, DeepSeek, xAI
    mistral_large = Preset("mistral/mistral-large-4", "Mistral; 1M tokens of context")
    mistral_medium = Preset("mistral/mistral-medium-latest", "Mistral")
    mistral_small = Preset("mistral/mistral-small-latest", "Mistral; small")
    codestral = Preset("mistral/codestral-latest", "Mistral; for code")
    devstral = Preset("mistral/devstral-latest", "Mistral; for agents that write code")
    magistral_medium = Preset("mistral/magistral-medium-latest", "Mistral; reasons")
    command_a = Preset("command-a-03-2025", "Cohere")
    command_a_plus = Preset("command-a-plus-05-2026", "Cohere; large")
    command_r7b = Preset("command-r7b-12-2024", "Cohere; small, takes a temperature")
    deepseek_flash = Preset("deepseek/deepseek-v4-flash", "DeepSeek; fast")
    deepseek_pro = Preset("deepseek/deepseek-v4-pro", "DeepSeek; large")
    grok = Preset("xai/grok-4.7", "xAI")
    grok_code = Preset("xai/grok-code-fast", "xAI; for code")

    # Hosts of others' models
    groq_gpt_oss = Preset("groq/openai/gpt-oss-120b", "An open model on Groq; very fast")
    groq_gpt_oss_small = Preset("groq/openai/gpt-oss-20b", "A small open model on Groq; very fast")
    bedrock_claude_haiku = Preset(
        "bedrock/global.anthropic.claude-haiku-5-5", "Anthropic's, on Amazon Bedrock"
    )
    bedrock_claude_opus = Preset("bedrock/global.anthropic.claude-opus-5-5", "Anthropic's, on Amazon Bedrock")
    bedrock_claude_sonnet = Preset(
        "bedrock/global.anthropic.claude-sonnet-5-5", "Anthropic's, on Amazon Bedrock"
    )
    bedrock_nova_lite = Preset("bedrock/us.amazon.nova-2-lite-v1:0", "Amazon's, on Bedrock")

    @staticmethod
    def model(
        name: str, base_url: str | None = None, api_key: str | None = "", **settings: Unpack[Options]
    ) -> LiteLLMProvider:
        """A provider for any model, by the name that the proxy knows.

        Args:
            name: for example "openrouter/vendor/model", "azure/<deployment>", or an alias of the proxy.
            base_url: the proxy's URL; left out: LITELLM_URL.
            api_key: the key; left out: LITELLM_API_KEY. None: a proxy without authentication.
            settings: further arguments of `LiteLLMProvider`.

        Raises:
            ConfigurationError: as `LiteLLMProvider`.
        """
        return LiteLLMProvider(base_url, name, api_key, **settings)

    @staticmethod
    def ollama(
        base_url: str | None = None,
        model: str = "llama3.1",
        api_key: str | None = "",
        **settings: Unpack[Options],
    ) -> LiteLLMProvider:
        """A provider for a local model that Ollama serves.

        The route is `ollama_chat/`: with `ollama/` small models write their tool calls into the text (litellm#34769). `llama2` and
        `codellama` are legacy: they cannot call tools.

        Args:
            base_url: the proxy's URL (not Ollama's); left out: LITELLM_URL.
            model: any tag that Ollama has pulled.
            api_key: the proxy's key; left out: LITELLM_API_KEY. None: a proxy without authentication.
            settings: further arguments of `LiteLLMProvider`.

        Raises:
            ConfigurationError: as `LiteLLMProvider`.
        """
        return LiteLLM.model(f"ollama_chat/{model}", base_url, api_key, **settings)


TABLE: Mapping[str, Preset] = MappingProxyType(
    {name: entry for name, entry in vars(LiteLLM).items() if isinstance(entry, Preset)}
)
"""Every preset by its name."""
