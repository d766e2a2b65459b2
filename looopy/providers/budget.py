"""A model that may use so many tokens, or so much money, and is cut in mid-answer when that is spent."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, cast

from reactivex import Observable, abc

from looopy.errors import BudgetExceeded, ConfigurationError, ModelTimeout
from looopy.events import LLMEvent, LLMResponse, LLMRetry, ThoughtDelta, ToolCallDelta
from looopy.messages import JSON
from looopy.model_call import asked
from looopy.ports import LLMProvider, LLMRequest
from looopy.providers.candidates import check_provider, model_of
from looopy.providers.clocks import LARGEST
from looopy.providers.estimates import BYTES, input_tokens, tokens_of
from looopy.providers.meter import Meter, Tab
from looopy.providers.requests import Hearer, Passage, Requests
from looopy.providers.wrapped import base_url_of, parameters_of, refuse_twice

logger = logging.getLogger(
    "looopy"
)  # heard also where nobody set logging up: a limit that does not hold is no detail


@dataclass(frozen=True, slots=True)
class Budget:
    """A provider that stops when so many tokens or so much money is spent, with a `BudgetExceeded`.

    It acts in mid-answer: tokens are estimated as they come, and when the estimate crosses the limit the answer is cut and its connection
    closed. What is cut stays counted as estimated; otherwise the model's own figures take the place of the estimate. An answer that turns out
    dearer than estimated is not thrown away: the next call is refused. A call that already its question would make too dear is not made.

    Money is estimated by the given prices, else by what the model cost so far on this meter; a first call without either is counted at its end.
    An answer whose price nobody knows does not count as money: a warning on the logger `looopy` says so once for each model, and `Meter.unpriced` how many.

    Attributes:
        provider: who is asked.
        meter: where what was used is counted, and by whom it is shared.
        tokens: the most, input and output together; None for no limit.
        cost: the most, in US dollars, as far as known; None for no limit.
        input_price: US dollars a token of the question, for models whose answers come without a price.
        output_price: US dollars a token of the answer.

    Raises:
        ConfigurationError: a value cannot work, or there is no limit at all.

    Example:
        >>> Budget(LiteLLMProvider(model="gpt-4o-mini"), Meter(), tokens=50_000, cost=0.25)
    """

    provider: LLMProvider
    meter: Meter
    _: KW_ONLY
    tokens: int | None = None
    cost: float | None = None
    input_price: float | None = None
    output_price: float | None = None

    def __post_init__(self) -> None:
        check_provider("Budget", self.provider, "for example LiteLLMProvider(model='gpt-4o-mini')")
        if not isinstance(self.meter, Meter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"Budget: a {type(self.meter).__name__} is no meter; it takes a Meter(), which those share who share the budget",
                argument="meter",
            )
        if self.tokens is None and self.cost is None:
            raise ConfigurationError(
                "Budget: it has no limit; give it tokens=50_000 or cost=0.25, or both", argument="tokens"
            )
        for name in ("tokens", "cost", "input_price", "output_price"):
            value = cast("object", getattr(self, name))
            if value is not None and not _is_limit(value, least_is_zero="price" in name):
                raise ConfigurationError(
                    f"Budget({name}={value!r}): it must be a number above 0, a price also 0; leave it out for none",
                    argument=name,
                )
        if (self.input_price is None) != (self.output_price is None):
            raise ConfigurationError(
                "Budget: input_price and output_price come together; models have both", argument="input_price"
            )
        refuse_twice(
            self, "meter", "each call would be counted twice; one Budget takes both tokens= and cost="
        )

    @property
    def model(self) -> str:
        """The model that the provider asks."""
        return model_of(self.provider)

    @property
    def base_url(self) -> str:
        """The address that the provider asks."""
        return base_url_of(self.provider)

    def parameters(self, request: LLMRequest, /) -> Mapping[str, JSON]:
        """What the provider sends a request with."""
        return parameters_of(self.provider, request)

    def call(self, request: LLMRequest, /) -> Observable[LLMEvent]:
        """Ask the model, as far as the budget reaches."""
        return Requests(partial(_Bill, self, request))


class _Bill(Passage):
    """A call, and what it costs: estimated until its answer says it."""

    __slots__ = (
        "_budget",
        "_heard",
        "_input",
        "_input_price",
        "_meter",
        "_model",
        "_over",
        "_request",
        "_tab",
    )

    def __init__(
        self, budget: Budget, request: LLMRequest, below: Hearer, scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(below, scheduler)
        self._budget = budget
        self._request = request
        self._meter = budget.meter
        self._model = request.model or budget.model
        known = budget.meter.price(self._model)
        self._input_price = known if budget.input_price is None else budget.input_price
        self._input = input_tokens(request)
        self._tab = Tab(
            known if budget.output_price is None else budget.output_price,
            math.inf if budget.tokens is None else budget.tokens,
            math.inf if budget.cost is None else budget.cost,
        )
        self._heard = False
        self._over = False  # nothing more is counted: it was answered, or cut

    def begin(self) -> None:
        """Ask, unless there is nothing left to spend, or too little for the question."""
        total, paid = self._meter.spent()
        if total >= self._tab.most_tokens or paid >= self._tab.most_cost:
            self.end(self._spent(total, paid))
            return
        spent = self._count_question()
        if spent is None:
            self.ask(self, lambda: asked(self._budget.provider, self._request))
        else:
            self._settle(0.0, 0.0)
            self.end(spent)

    def dispose(self) -> None:
        """Close it: what was heard of it is counted."""
        super().dispose()
        if self._tab.ahead:
            self._meter.count(self._tab)

    def text(self, event: Any, /) -> None:
        """Count a piece of text and show it; where that was too much, cut the call."""
        if self._over:  # a provider that goes on after it was cut
            return
        tab, delta = self._tab, event.delta
        # Mostly without a call: there are thousands of pieces.
        tab.ahead += len(delta) / BYTES if delta.isascii() else tokens_of(delta)
        self._heard = True
        if tab.ahead <= tab.free:
            self.below.text(event)
            return
        spent = self._count()
        self.below.text(event)
        if spent is not None:
            self._cut(spent)

    def other(self, event: LLMEvent, /) -> None:
        """Count what another event stands for and show it; where that was too much, cut the call."""
        if self._over:
            return
        spent = None
        match event:
            case LLMResponse():
                self._answered(event)
            case LLMRetry():
                spent = self._asked_again()
            case ThoughtDelta(delta=str(delta)) | ToolCallDelta(delta=str(delta)):
                self._tab.ahead += tokens_of(delta)
                self._heard = True
                spent = self._count()
            case _:  # a reset; or what no model should emit, which is the loop's to say
                pass
        self.below.other(event)
        if spent is not None:
            self._cut(spent)

    def on_error(self, error: Exception) -> None:
        """The call failed: a request that was refused is not charged."""
        if not (self._heard or self._over or isinstance(error, ModelTimeout)):
            self._settle(0.0, 0.0)
        super().on_error(error)

    def _cut(self, spent: BudgetExceeded) -> None:
        below = self.below
        self.dispose()
        below.on_error(spent)

    def _asked_again(self) -> BudgetExceeded | None:
        """Another request: what the last one said is paid for, and its figures will not come."""
        if not self._heard:
            return None
        self._meter.count(self._tab)
        self._tab.tokens = self._tab.cost = 0.0
        self._heard = False
        return self._count_question()

    def _answered(self, response: LLMResponse) -> None:
        usage, cost = response.usage, response.cost
        if response.cached:
            self._settle(0.0, 0.0)
            return
        if cost is not None and not 0 <= cost < math.inf:
            cost = None  # of a provider of one's own: a NaN would make a new meter of this one
        if usage is not None and cost is not None:
            self._meter.learn(self._model, usage, cost)
        if cost is None and self._budget.output_price is None and not self._tab.price:
            self._unpriced()
        if usage is not None and cost is None:
            cost = usage.input_tokens * self._input_price + usage.output_tokens * self._tab.price
        self._settle(None if usage is None else usage.total_tokens, cost)

    def _unpriced(self) -> None:
        """Nobody knows what the answer cost: a limit on money does not see it, which is said once for each model."""
        if self._meter.leave_out(self._model) and self._budget.cost is not None:
            logger.warning(
                "Budget(cost=%g): nobody says what %r costs, so its answers are not in it; "
                "pass input_price= and output_price=, or tokens= for a limit that needs no price",
                self._budget.cost,
                self._model,
            )

    def _settle(self, tokens: float | None, cost: float | None) -> None:
        """The call cost this, whatever was estimated."""
        self._meter.settle(self._tab, tokens, cost)
        self._over = True

    def _count_question(self) -> BudgetExceeded | None:
        return self._count(self._input, self._input * self._input_price)

    def _count(self, tokens: float = 0.0, cost: float = 0.0) -> BudgetExceeded | None:
        """Count what was heard, and some more; an error where that is more than there is."""
        total, paid = self._meter.count(self._tab, tokens, cost)
        if total > self._tab.most_tokens or paid > self._tab.most_cost:
            return self._spent(total, paid)
        return None

    def _spent(self, total: float, paid: float) -> BudgetExceeded:
        """What is spent: the tokens, else the money."""
        budget = self._budget
        if budget.tokens is not None and total >= budget.tokens:
            text = f"the budget of {budget.tokens:,} tokens is spent: the meter is at {math.ceil(total):,}"
            return self._exceeded(
                text, limit="tokens", allowed=budget.tokens, spent=math.ceil(total), unit="tokens"
            )
        assert budget.cost is not None, "one of the two is spent"
        text = f"the budget of ${budget.cost:g} is spent: the meter is at ${paid:.6g}"
        return self._exceeded(text, limit="cost", allowed=budget.cost, spent=paid, unit="USD")

    def _exceeded(self, text: str, *, limit: str, allowed: float, spent: float, unit: str) -> BudgetExceeded:
        self._over = True
        text += f"; raise {limit}= of Budget, or go on with a new Meter"
        return BudgetExceeded(text, limit=limit, allowed=allowed, spent=spent, unit=unit)


def _is_limit(value: object, *, least_is_zero: bool) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value <= LARGEST:
        return False
    return value > 0 or (least_is_zero and value == 0)
