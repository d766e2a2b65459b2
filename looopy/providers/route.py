"""Several models for several kinds of request: which of them is asked is decided by the request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

from reactivex import Observable

from looopy.errors import ConfigurationError
from looopy.events import LLMEvent
from looopy.messages import FilePart, Message
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.attempts import Attempt, Shown, Then, attempts
from looopy.providers.candidates import Candidate, candidates, check_candidates, check_provider
from looopy.providers.catalogue import estimate

Condition: TypeAlias = Callable[[LLMRequest], bool]
"""What a request may be; `has_tools`, `has_images` and `longer_than(…)` are some."""

Choose: TypeAlias = Callable[[LLMRequest], LLMProvider | str]
"""Who is asked: the name of a route, or any provider."""


def has_tools(request: LLMRequest) -> bool:
    """Whether the model may call a tool."""
    return bool(request.tools) and request.tool_choice != "none"


def has_images(request: LLMRequest) -> bool:
    """Whether there is a picture in the conversation."""
    return any(
        part.mime_type.startswith("image/") for message in request.messages for part in _files(message)
    )


def longer_than(tokens: int) -> Condition:
    """Whether a request has more tokens than that, by estimate: four bytes for a token, and 1,000 tokens for a file within.

    Raises:
        ConfigurationError: `tokens` is no whole number, or below 0.
    """
    if not isinstance(cast("object", tokens), int) or isinstance(tokens, bool) or tokens < 0:
        raise ConfigurationError(
            f"longer_than({tokens!r}): it takes a whole number of tokens, for example longer_than(100_000)",
            argument="tokens",
        )
    return lambda request: estimate(request.messages, request.tools).count > tokens


def _files(message: Message) -> list[FilePart]:
    content = message.content
    return [] if isinstance(content, str) else [part for part in content if isinstance(part, FilePart)]


@dataclass(frozen=True, slots=True)
class _FirstThatHolds:
    """The name of the first condition that holds."""

    conditions: Mapping[str, Condition]
    otherwise: str

    def __call__(self, request: LLMRequest) -> str:
        holds = (name for name, condition in self.conditions.items() if condition(request))
        return next(holds, self.otherwise)

    def check(self, routes: Mapping[str, object]) -> None:
        """Check that each condition is one, and has a route.

        Raises:
            ConfigurationError: it has not.
        """
        for name, condition in self.conditions.items():
            if name not in routes:
                raise ConfigurationError(
                    f"Route: there is a condition for {name!r}, and no such route; there are {_listed(routes)}",
                    argument="choose",
                )
            if not callable(condition):
                raise ConfigurationError(
                    f"Route: the condition for {name!r} must be a function of the request, for example has_images",
                    argument="choose",
                )


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """A provider that asks the one of several that a request is for. Nobody else is asked when that one fails; `served_by` says who answered.

    It has no `model`, since that is decided by the request. A request's own `model` is asked of whoever is chosen, but for routes that are
    a model's name.

    Args:
        choose: conditions by the names of routes: the first that holds decides, and where none does, the first route is taken. Or a function of
            the request that returns the name of a route, or any provider. It is asked at every call.
        routes: who is asked, by names of your own. A text stands for that model on the provider before it.

    Raises:
        ConfigurationError: a value cannot work. Out of a call: the function chose what there is not.

    Example:
        >>> mini = LiteLLMProvider(model="gpt-4o-mini")
        >>> Route({"vision": has_images, "long": longer_than(100_000)}, cheap=mini, vision="gpt-4o", long="gemini-pro")
    """

    choose: Choose
    routes: Mapping[str, LLMProvider | str]

    def __init__(self, choose: Choose | Mapping[str, Condition], /, **routes: LLMProvider | str) -> None:
        example = "Route({'vision': has_images}, cheap=LiteLLMProvider(model='gpt-4o-mini'), vision='gpt-4o')"
        check_candidates("Route", tuple(routes.values()), example)
        if isinstance(choose, Mapping):
            choose = _FirstThatHolds(dict(cast("Mapping[str, Condition]", choose)), next(iter(routes)))
            choose.check(routes)
        elif not callable(choose) or isinstance(choose, type):
            raise ConfigurationError(
                f"Route: it chooses by a function of the request, or by conditions for routes, for example {example}",
                argument="choose",
            )
        object.__setattr__(self, "choose", choose)
        object.__setattr__(self, "routes", routes)

    @property
    def providers(self) -> tuple[LLMProvider | str, ...]:
        """Whom the routes lead to."""
        return tuple(self.routes.values())

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the one that the request is for."""

        def plan() -> tuple[Attempt, Then]:
            chosen = self._chosen(request)
            begin = partial(_ask, chosen, request)
            return Attempt(
                begin=begin, model=chosen.name, take=lambda response, _: chosen.signed(response)
            ), _fail

        return attempts(plan)

    def _chosen(self, request: LLMRequest) -> Candidate:
        choice = cast("object", self.choose(request))
        if not isinstance(choice, str):
            check_provider("Route", choice, f"or is the name of a route: {_listed(self.routes)}")
            return candidates([cast("LLMProvider", choice)])[0]
        if choice not in self.routes:
            raise ConfigurationError(
                f"Route: {choice!r} was chosen, and there is no such route; there are {_listed(self.routes)}",
                argument="choose",
            )
        return dict(zip(self.routes, candidates(self.providers), strict=True))[choice]


def _ask(candidate: Candidate, request: LLMRequest) -> Observable[LLMEvent]:
    return asked(candidate.provider, candidate.sent(request))


def _fail(error: Exception, _: Shown) -> Exception:
    return error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
