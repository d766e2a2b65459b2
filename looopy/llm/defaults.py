"""The model that stands behind a call which names no provider: made once for what the environment says, and shared from then on."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from looopy.arguments import provider_of, stand_in_for
from looopy.ports import Embedder, LLMProvider
from looopy.providers.embeddings import LiteLLMEmbedder
from looopy.providers.tuned import Tuned
from looopy.testing.standin import StandInEmbedder

if TYPE_CHECKING:
    from looopy.settings import Settings

T = TypeVar("T")

_PREFIXES = ("LOOOPY_", "LITELLM_", "OPENAI_")
_NAMES = (
    "LITELLM_URL",
    "LITELLM_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "LOOOPY_STAND_IN",
    "LOOOPY_EMBEDDING_MODEL",
)
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
        whole = (key, _environment())
        with self._lock:
            if whole not in self._made:
                self._made[whole] = make()
            self._made.move_to_end(whole)
            if len(self._made) > _ROOM:
                self._made.popitem(last=False)
            return self._made[whole]  # pyright: ignore[reportReturnType]  # the key says what was made


def _environment() -> Hashable:
    """What the environment says; with a settings file any key may be there, and to look through all variables takes a while."""
    if os.environ.get("LOOOPY_SETTINGS"):
        return tuple(sorted(item for item in os.environ.items() if item[0].startswith(_PREFIXES)))
    return tuple(map(os.environ.get, _NAMES))


_shared = _Shared()


def provider_for(model: str) -> LLMProvider:
    """The provider that asks for a model: that of the settings file which LOOOPY_SETTINGS names, else the proxy of the environment, or the stand-in.

    Args:
        model: its name; empty: that of the settings, or LOOOPY_MODEL.

    Raises:
        ConfigurationError: there is no model, or no proxy.
    """
    settings, name = _settings(), model.strip()
    if settings is not None and name != "stand-in":
        return Tuned(settings.provider(), model=name) if name else settings.provider()
    name = name or os.environ.get("LOOOPY_MODEL", "").strip()
    return _shared.get(("provider", name), lambda: provider_of(name))


def embedder_for(model: str, *, fallback_model: str, dimensions: int | None) -> Embedder:
    """The embedder for a model, from where `provider_for` has its provider; without a fallback of its own a chat model gives way to
    LOOOPY_EMBEDDING_MODEL, or the model of the settings.

    Raises:
        ConfigurationError: there is no model, or no proxy.
    """
    settings = _settings()

    def make() -> Embedder:
        if settings is not None:
            return settings.embedder(model=model, fallback_model=fallback_model, dimensions=dimensions)
        fallback = fallback_model or os.environ.get("LOOOPY_EMBEDDING_MODEL", "").strip()
        if stand_in_for(model or fallback):
            return StandInEmbedder(dimensions=dimensions)
        return LiteLLMEmbedder(model=model, fallback_model=fallback, dimensions=dimensions)

    return _shared.get(("embedder", model, fallback_model, dimensions), make)


def _settings() -> Settings | None:
    """What the settings file says, which LOOOPY_SETTINGS names; it is read once."""
    path = os.environ.get("LOOOPY_SETTINGS", "").strip()
    if not path:
        return None
    from looopy.settings import Settings  # noqa: PLC0415  an optional package reads it

    return _shared.get(("settings",), lambda: Settings.load(path))
