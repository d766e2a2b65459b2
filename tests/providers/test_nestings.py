"""What cannot be nested is said when it is nested, with the mend; what looks odd and works is let be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from providers.wrapping import Named

from looopy import (
    AgentLoop,
    Budget,
    Cache,
    Fallback,
    Hedge,
    Limiter,
    LiteLLMProvider,
    LLMRequest,
    LoadBalance,
    MemoryCache,
    Meter,
    RateLimit,
    Retry,
    Route,
)
from looopy.errors import BudgetExceeded, ConfigurationError, ModelOverloaded


class Awaited:
    async def call(self, request: LLMRequest, /) -> str:
        return "no stream"


class Iterated:
    async def call(self, request: LLMRequest, /) -> AsyncIterator[str]:
        yield "no stream"


def model(name: str = "a") -> LiteLLMProvider:
    return LiteLLMProvider("http://proxy", name, None)


A, METER, LIMITER, STORE = model(), Meter(), Limiter(at_once=1), MemoryCache()

WRAPS: dict[str, Callable[[Any], object]] = {
    "Retry": Retry,
    "Fallback": Fallback,
    "Hedge": lambda inner: Hedge(inner, after=1),
    "LoadBalance": LoadBalance,
    "Route": lambda inner: Route({}, one=inner),
    "Budget": lambda inner: Budget(inner, Meter(), tokens=1),
    "RateLimit": lambda inner: RateLimit(inner, Limiter(at_once=1)),
    "Cache": lambda inner: Cache(inner, MemoryCache()),
}
NO_PROVIDERS: list[tuple[object, str]] = [
    ("gpt-5", "'gpt-5' is no provider; .*LiteLLMProvider("),
    (LiteLLMProvider, "the class LiteLLMProvider is no provider"),
    (AgentLoop(llm_provider=A), "an AgentLoop is no provider"),
    (A.call, "a method is no provider"),
    (None, "None is no provider"),
    ([A], "a list is no provider"),
    (Awaited(), "Awaited.call() is async; write `def call`, not `async def`, that returns a stream"),
    (Iterated(), "Iterated.call() is async; write `def call`, not `async def`, that returns a stream"),
]


@pytest.mark.parametrize(("inner", "said"), NO_PROVIDERS, ids=[said[:20] for _, said in NO_PROVIDERS])
@pytest.mark.parametrize("wrapper", WRAPS)
def test_what_is_no_provider_cannot_be_wrapped(wrapper: str, inner: object, said: str) -> None:
    pattern = re.escape(f"{wrapper}: {said}").replace(r"\.\*", ".*")
    with pytest.raises(ConfigurationError, match=pattern):
        WRAPS[wrapper](inner)


IMPOSSIBLE: list[tuple[Callable[[], object], str]] = [
    (lambda: Retry("gpt-5"), "for example LiteLLMProvider(model='gpt-5')"),  # type: ignore[arg-type]
    (lambda: Fallback("gpt-5", "b"), "Fallback(LiteLLMProvider(model='gpt-5'), "),
    (lambda: Fallback([A, "b"]), "pass them one by one, as in Fallback(*providers)"),  # type: ignore[arg-type]
    (Fallback, "Fallback(): it takes providers"),
    (lambda: Fallback(A, A), "'a' stands there twice; Retry(…) asks the same one again"),
    (lambda: Fallback(A, "b", A), "'a' stands there twice; Retry(…) asks the same one again"),
    (
        lambda: Fallback(A, "b", on=()),
        "on=()): with no error the next one is never asked; leave it out for all",
    ),
    (lambda: LoadBalance(A, "a"), "'a' stands there twice"),
    (lambda: LoadBalance(A, A), "'a' stands there twice; weights=(2, 1) lets one come up more often"),
    (
        lambda: LoadBalance(A, "b", weights=(0, 0)),
        "there must be a number above 0 for each of the 2 providers",
    ),
    (lambda: Route({"vision": bool}, cheap=A), "there is a condition for 'vision', and no such route"),
    (lambda: Route({}), "it takes providers"),
    (lambda: Cache(Retry(Cache(A, STORE)), STORE), "another Cache with the same store"),
    (
        lambda: Budget(Fallback(Budget(A, METER, tokens=1), "b"), METER, cost=1.0),
        "another Budget with the same meter",
    ),
    (lambda: RateLimit(Fallback(A, RateLimit(model("b"), LIMITER)), LIMITER), "it would wait for itself"),
]


@pytest.mark.parametrize(("make", "said"), IMPOSSIBLE, ids=[said[:30] for _, said in IMPOSSIBLE])
def test_what_cannot_work_is_refused_with_the_mend(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_what_looks_odd_and_works_is_let_be() -> None:
    """A list with one entry comes out of somebody's settings; two proxies may have a model of one name; one store may lie before another."""
    assert [
        Fallback(A),
        LoadBalance(A),
        Hedge(A, A, after=1),
        Fallback(A, model()),
        Fallback(A, "a", "b", "b"),
        Fallback(Named("a"), Named("a")),
        Fallback(A, "b", on=(), accept=lambda response: True),
        Retry(Retry(A, on={ModelOverloaded: 9})),
        Cache(Cache(A, MemoryCache()), MemoryCache()),
        Fallback(Budget(A, METER, tokens=1), Budget(model("b"), METER, tokens=2), on=BudgetExceeded),
        Route({}, one=RateLimit(A, LIMITER), two=RateLimit(model("b"), LIMITER)),
    ]
