"""What can be said of a model call before it is made: the same for most calls of a provider, so it is worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from looopy.messages import JSON
from looopy.observe import attributes as a
from looopy.observe import sayings
from looopy.ports import LLMProvider, LLMRequest

_REMEMBERED = 64  # providers
_NONE: Mapping[str, JSON] = {}


class Asked:
    """What is known of the providers that were asked lately.

    Args:
        legacy: also the names of before 2025.
    """

    __slots__ = ("_legacy", "known")

    def __init__(self, *, legacy: bool) -> None:
        self._legacy = legacy
        self.known: dict[int, _Known] = {}

    def of(self, provider: LLMProvider, model: str, request: LLMRequest) -> a.Attributes:
        """The attributes for a call; worked out anew when the provider, the model or the parameters have changed."""
        parameters = getattr(provider, "parameters", None)
        fields = cast("Mapping[str, JSON]", parameters(request)) if callable(parameters) else _NONE
        known = self.known.get(id(provider))
        if (
            known is None
            or known.provider is not provider
            or known.fields is not fields
            or known.model != model
        ):
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            known = _Known(provider, model, fields, self._said(provider, model, fields))
            self.known[id(provider)] = known
        return known.attributes

    def _said(self, provider: LLMProvider, model: str, fields: Mapping[str, JSON]) -> a.Attributes:
        said: a.Attributes = {a.OPERATION: "chat", a.PROVIDER: a.provider_name(model)}
        if model:
            said[a.MODEL] = model
        said |= {a.STREAM: True, **sayings.parameters(fields)}
        address, port = a.server(provider)
        if address:
            said[a.ADDRESS] = address
        if port:
            said[a.PORT] = port
        if self._legacy:
            said["gen_ai.system"] = said[a.PROVIDER]
        return said


class _Known(NamedTuple):
    provider: LLMProvider
    model: str
    fields: Mapping[str, JSON]
    attributes: a.Attributes
