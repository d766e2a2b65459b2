"""Several models to choose from: what they are called, and what each is sent.

`fallback.py`, `hedge.py`, `load_balance.py` and `route.py` are given them in the same way: as providers, and as names of other models of the
provider before.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple, cast

from looopy.errors import ConfigurationError, LooopyError
from looopy.events import LLMResponse
from looopy.frozen import changed
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.wrapped import base_url_of
from looopy.redaction import redact


class Candidate(NamedTuple):
    """One of several models.

    Attributes:
        provider: who asks it.
        model: its name where the provider asks for another by itself; else empty.
        name: by which events call it.
    """

    provider: LLMProvider
    model: str
    name: str

    def sent(self, request: LLMRequest) -> LLMRequest:
        """What it is sent: a request that is meant for whichever is chosen."""
        return changed(request, model=self.model) if self.model else request

    def signed(self, response: LLMResponse) -> LLMResponse:
        """Its answer, with `served_by`; a wrapper within knows better."""
        return response if response.served_by else changed(response, served_by=self.name)


def candidates(providers: Sequence[LLMProvider | str], model: str = "") -> tuple[Candidate, ...]:
    """Those who may be asked; of several with one name the second is called "name#2".

    Args:
        providers: as checked by `check_candidates`.
        model: what the first is asked for instead of its own.
    """
    found = [first_of(providers, model)]
    names = {found[0].name: 1}
    for provider in providers[1:]:
        asks, of = (provider, found[-1].provider) if isinstance(provider, str) else ("", provider)
        name = asks or model_of(of) or type(of).__name__
        names[name] = names.get(name, 0) + 1
        found.append(Candidate(of, asks, name if names[name] == 1 else f"{name}#{names[name]}"))
    return tuple(found)


def first_of(providers: Sequence[LLMProvider | str], model: str = "") -> Candidate:
    """The first of `candidates`, by itself: mostly nobody else is asked."""
    provider = cast("LLMProvider", providers[0])
    return Candidate(provider, model, model or model_of(provider) or type(provider).__name__)


class Failures:
    """What went wrong so far with those who were asked."""

    __slots__ = ("_passing",)

    def __init__(self) -> None:
        self._passing: Exception | None = None  # the newest that may pass

    def note(self, error: Exception) -> None:
        """Another one failed."""
        if isinstance(error, LooopyError) and error.retryable:
            self._passing = error

    def worth_most(self, last: Exception) -> Exception:
        """Of all failures the one that says most about whether to ask again later."""
        if self._passing is None or self._passing is last:
            return last
        self._passing.__cause__ = last  # a traceback shows both
        return self._passing


def model_of(provider: LLMProvider) -> str:
    """The name of the model that a provider asks; empty where it does not say."""
    return getattr(provider, "model", "")


def without_repeats(providers: Sequence[LLMProvider | str], model: str = "") -> tuple[LLMProvider | str, ...]:
    """Those who may be asked, without the names of models that stand there already: on the same provider, or at the same address.

    Args:
        providers: as checked by `check_candidates`.
        model: what the first is asked for instead of its own.
    """
    left: list[LLMProvider | str] = []
    seen: set[tuple[int | str, str]] = set()
    before = cast("LLMProvider", providers[0])
    for each in providers:
        if not isinstance(each, str):
            before = each
        name = each if isinstance(each, str) else (model_of(each) if left else model or model_of(each))
        places = {(id(before), name), (base_url_of(before) or id(before), name)}
        if not (isinstance(each, str) and seen & places):
            left.append(each)
        seen |= places
    return tuple(left)


def check_candidates(wrapper: str, providers: Sequence[object], example: str) -> None:
    """Check that a wrapper was given providers, and names only after one.

    Raises:
        ConfigurationError: it was not.
    """
    if not providers:
        raise ConfigurationError(
            f"{wrapper}(): it takes providers, for example {example}", argument="providers"
        )
    mend = f"or, after the first, the name of another model of the same provider: {example}"
    if isinstance(providers[0], list | tuple):
        mend = f"or several; pass them one by one, as in {wrapper}(*providers)"
    for place, provider in enumerate(providers):
        if not (isinstance(provider, str) and provider.strip() and place):
            check_provider(wrapper, provider, mend)


def refuse_one_twice(wrapper: str, providers: Sequence[LLMProvider | str], mend: str) -> None:
    """Check that a wrapper was not given one model of one provider twice: it would be asked again at once, for the same answer.

    Raises:
        ConfigurationError: it was.
    """
    seen: set[tuple[int, str]] = set()
    for provider, model, _ in candidates(providers):
        name = model or model_of(provider)
        if (id(provider), name) in seen:
            what = repr(name) if name else f"the same {type(provider).__name__}"
            raise ConfigurationError(f"{wrapper}: {what} stands there twice; {mend}", argument="providers")
        seen.add((id(provider), name))


def check_provider(wrapper: str, provider: object, mend: str) -> None:
    """Check that a wrapper was given a provider, and no class that somebody forgot to call.

    Args:
        wrapper: its name.
        provider: what it was given.
        mend: what it takes beside an object; a model's name that it was given takes the place of 'gpt-4o-mini' there.

    Raises:
        ConfigurationError: it was not.
    """
    call = getattr(provider, "call", None)
    if isinstance(provider, type) or not callable(call):
        if isinstance(provider, str) and (shown := redact(repr(provider))) == repr(provider):
            mend = mend.replace("'gpt-4o-mini'", shown)
        raise ConfigurationError(
            f"{wrapper}: {_shown(provider)} is no provider; it takes an object with call(request), {mend}",
            argument="provider",
        )
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        raise ConfigurationError(
            f"{wrapper}: {type(provider).__name__}.call() is async; write `def call`, not `async def`, that returns a stream "
            "of deltas with an LLMResponse at its end",
            argument="provider",
        )


def _shown(given: object) -> str:
    """What somebody gave in place of a provider, without its content."""
    if given is None:
        return "None"
    if isinstance(given, str):
        return redact(repr(given))
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    if isinstance(given, type):
        return f"the class {name}"
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"
