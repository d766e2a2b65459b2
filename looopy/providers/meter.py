"""What was used, by all who share it: the memory of `Budget`.

To add each piece of an answer under a lock would be half the price of a budget. So a call that counts twice with no other in between, or when no other is
under way, is let ahead: it counts by itself, as far as its limits reach, until another one counts. Whatever is asked of the meter, what the one ahead has counted is in it.
"""

from __future__ import annotations

import math
import threading

from looopy.messages import Usage


class Tab:
    """What one call counts.

    Attributes:
        price: US dollars a token of what it hears.
        most_tokens: the most that the meter may show.
        most_cost: the same in US dollars.
        tokens: what the meter knows of the request under way; of those before it the meter alone knows.
        cost: the same in US dollars.
        ahead: tokens that the meter does not know of yet; written by the thread alone that hears the call.
        free: how many there may be of them.
    """

    __slots__ = ("ahead", "cost", "free", "most_cost", "most_tokens", "price", "tokens")

    def __init__(self, price: float, most_tokens: float, most_cost: float) -> None:
        self.price = price
        self.most_tokens = most_tokens
        self.most_cost = most_cost
        self.tokens = self.cost = self.ahead = 0.0
        self.free = -1.0


class Meter:
    """What was used: the memory of a `Budget`. One for a run, a session, a user, a process: whoever shares it shares the budget. For any thread.

    It counts what models report; of calls under way, and of those that were cut, what their pieces let expect.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._cost = 0.0
        self._paid: dict[str, tuple[int, float]] = {}
        self._unpriced: dict[str, int] = {}  # by model: answers whose price nobody knows
        self._newest: Tab | None = None  # who counted last
        self._ahead: Tab | None = None  # who counts by itself

    def __repr__(self) -> str:
        unpriced = f", unpriced={self.unpriced}" if self.unpriced else ""
        return f"Meter(tokens={self.tokens}, cost={self.cost:.6f}{unpriced})"

    @property
    def tokens(self) -> int:
        """Input and output."""
        with self._lock:
            return math.ceil(self._sum()[0])

    @property
    def cost(self) -> float:
        """US dollars, as far as the prices are known."""
        with self._lock:
            return self._sum()[1]

    @property
    def unpriced(self) -> int:
        """Answers whose price nobody knows; `cost` is without them."""
        with self._lock:
            return sum(self._unpriced.values())

    def add(self, tokens: float, cost: float) -> tuple[float, float]:
        """Count some more; some less where it is negative, to correct what was counted before. Gives what that makes in all."""
        with self._lock:
            self._turn_of(None)
            self._add(tokens, cost)
            return self._sum()

    def learn(self, model: str, usage: Usage, cost: float) -> None:
        """Take note of what a model cost, for estimates."""
        with self._lock:
            tokens, paid = self._paid.get(model, (0, 0.0))
            self._paid[model] = (tokens + usage.total_tokens, paid + cost)

    def leave_out(self, model: str) -> bool:
        """Take note of an answer whose price nobody knows; whether it is the first of its model."""
        with self._lock:
            self._unpriced[model] = self._unpriced.get(model, 0) + 1
            return self._unpriced[model] == 1

    def price(self, model: str) -> float:
        """US dollars a token of a model, on the average of what was reported so far; 0 where nothing was."""
        tokens, paid = self._paid.get(model, (0, 0.0))
        return paid / tokens if tokens else 0.0

    def spent(self) -> tuple[float, float]:
        """What was used, without waiting for those who are counting; for `Budget`."""
        return self._sum()

    def count(self, tab: Tab, tokens: float = 0.0, cost: float = 0.0) -> tuple[float, float]:
        """Count what a call is ahead, and some more; for `Budget`. Gives what that makes in all."""
        with self._lock:
            alone = self._newest is None or self._newest is tab
            self._turn_of(tab)
            tokens, cost, tab.ahead = tokens + tab.ahead, cost + tab.ahead * tab.price, 0.0
            tab.tokens += tokens
            tab.cost += cost
            self._add(tokens, cost)
            total, paid = self._sum()
            if alone and self._ahead is None:
                self._ahead = tab
                affordable = (tab.most_cost - paid) / tab.price if tab.price else math.inf
                tab.free = min(tab.most_tokens - total, affordable)
            return total, paid

    def settle(self, tab: Tab, tokens: float | None, cost: float | None) -> None:
        """A call is over and was this, whatever was counted of it; for `Budget`. None where only the estimate is known."""
        with self._lock:
            self._turn_of(None)
            ahead, tab.ahead = tab.ahead, 0.0
            self._add(
                ahead if tokens is None else tokens - tab.tokens,
                ahead * tab.price if cost is None else cost - tab.cost,
            )
            if self._ahead is tab:
                self._ahead = None

    def _turn_of(self, tab: Tab | None) -> None:
        """Somebody counts: whoever is ahead comes back with its next piece."""
        self._newest, ahead = tab, self._ahead
        if ahead is not None:
            ahead.free = -1.0
            if ahead is tab or not ahead.ahead:
                self._ahead = None

    def _add(self, tokens: float, cost: float) -> None:
        self._tokens += tokens
        self._cost += cost
        if (
            tokens < 0.0 or cost < 0.0
        ):  # rounding must not leave less than nothing where an estimate is taken back
            self._tokens, self._cost = max(0.0, self._tokens), max(0.0, self._cost)

    def _sum(self) -> tuple[float, float]:
        ahead = self._ahead
        if ahead is None:
            return self._tokens, self._cost
        return self._tokens + ahead.ahead, self._cost + ahead.ahead * ahead.price
