"""The model that stands behind a call which names no provider: made once for what the environment says, and shared from then on."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from looopy.arguments import provider_of, stand_in_for
from looopy.ports import Embedder, LLMProvider
from looopy.providers.embeddings import LiteLLMEmbedder
from looopy.testing.standin import StandInEmbedder

T = TypeVar("T")

_PREFIXES = ("LOOOPY_", "LITELLM_", "OPENAI_")
_ROOM = (
    64  # what is made for more names, or more environments, takes the place of what was not used the longest
)


class _Shared:
    """What was made, by what it was made from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, object] = OrderedDict()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], T]) -> T:
        """The value for a key in this environment, made at the first time; what raises is not kept."""
        settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_PREFIXES)))
        with self._lock:
            whole = (key, settings)
            if whole not in self._made:
                self._made[whole] = make()
            self._made.move_to_end(whole)
            if len(self._made) > _ROOM:
                self._made.popitem(last=False)
            return self._made[whole]  # pyright: ignore[reportReturnType]  # the key says what was made


_shared = _Shared()


def provider_for(model: str) -> LLMProvider:
    """The provider that asks for a model: through the proxy that the environment names, or the stand-in.

    Args:
        model: its name; empty: LOOOPY_MODEL.

    Raises:
        ConfigurationError: there is no model, or no proxy.
    """
    name = model.strip() or os.environ.get("LOOOPY_MODEL", "").strip()
    return _shared.get(("provider", name), lambda: provider_of(name))


def embedder_for(model: str, *, fallback_model: str, dimensions: int | None) -> Embedder:
    """The embedder for a model, or the stand-in; without a fallback of its own a chat model gives way to LOOOPY_EMBEDDING_MODEL.

    Raises:
        ConfigurationError: there is no model, or no proxy.
    """
    fallback = fallback_model or os.environ.get("LOOOPY_EMBEDDING_MODEL", "").strip()

    def make() -> Embedder:
        if stand_in_for(model or fallback):
            return StandInEmbedder(dimensions=dimensions)
        return LiteLLMEmbedder(model=model, fallback_model=fallback, dimensions=dimensions)

    return _shared.get(("embedder", model, fallback, dimensions), make)
