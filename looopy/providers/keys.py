"""The environment variables in which the makers of models expect their API keys, as LiteLLM reads them.

Names only: no value of a variable is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "cohere": "COHERE_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "groq": "GROQ_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "xai": "XAI_API_KEY",
}
"""LiteLLM's name of a maker, which stands before the slash in "openai/gpt-4o-mini", and the variable."""


def variable_of(model: str) -> str:
    """The variable with the key for a model that is named as "maker/model"; empty where that is not known."""
    maker, slash, _ = model.partition("/")
    return KEYS.get(maker, "") if slash else ""


def present() -> tuple[str, ...]:
    """The makers whose keys are in the environment."""
    return tuple(maker for maker, variable in KEYS.items() if os.environ.get(variable, "").strip())


def values() -> tuple[str, ...]:
    """What no text may show: every value in the environment under a name that ends in `_API_KEY`."""
    return tuple(value for name, value in os.environ.items() if name.endswith("_API_KEY") and value.strip())
