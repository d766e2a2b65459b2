"""Spans as rows of a picture: which are shown, and what each says. No colours and no widths: those are `picture.py`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from looopy.events import Failure
from looopy.observe.pictures.bars import Signs
from looopy.observe.pictures.figures import counted, dollars, duration, harmless, percent, shortly
from looopy.observe.pictures.timeline import Retry, Span, SpanStatus
from looopy.observe.pictures.totals import Spent, Time, spent

_MANY = 12  # children of one span; of more, those at the ends and those that stand out are shown
_AT_ENDS = 3  # of many children, at either end
_OUTSTANDING = 3  # of many children: the slowest, as many of the dearest, and as many that failed
_MODELS = 8  # models at the foot
_NOTHING = 1e-6  # seconds that are none: events have no finer dates

Look: TypeAlias = Literal["agent", "iteration", "chat", "tool", "several", "own", "money"]
"""What a row is about, and so how its bar looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time to draw.

    Attributes:
        spoke: when a model's first piece came; None where that is not to be seen.
    """

    start: float
    end: float
    spoke: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the picture.

    Attributes:
        stem: the tree to the left of the name.
        look: what it is about; None for a note, which has the whole line to itself.
        status: how it ended.
        name: what it is.
        bar: when it was.
        time: its duration.
        share: of the whole.
        tokens: in and out.
        cost: US dollars.
        slowest: no other single call took longer.
        dearest: no other single call cost more.
    """

    stem: str = ""
    look: Look | None = None
    status: SpanStatus = "ok"
    name: str = ""
    bar: Bar | None = None
    time: str = ""
    share: str = ""
    tokens: str = ""
    cost: str = ""
    slowest: bool = False
    dearest: bool = False


class Rows:
    """The rows of one tree.

    Args:
        root: the tree.
        signs: what it is drawn with.
        everything: show each span; else the middle of many is left out, but for what stands out.
    """

    def __init__(self, root: Span, signs: Signs, *, everything: bool) -> None:
        calls = [span for span in root.walk() if span.kind in ("chat", "tool") and not span.children]
        self._root = root
        self._signs = signs
        self._everything = everything
        self._longest = max((call.seconds for call in calls), default=0.0)
        self._most = max((call.cost or 0.0 for call in calls), default=0.0)

    def __iter__(self) -> Iterator[Row]:
        return self._of(self._root, "", "")

    def _of(self, span: Span, stem: str, below: str) -> Iterator[Row]:
        """The rows of a span: its own after `stem`, those within it after `below`."""
        yield self._row(span, stem)
        signs = self._signs
        for status, said in _notes(span, signs):
            stem = below + (signs.stem if span.children else signs.blank)
            yield Row(stem=stem, status=status, name=harmless(said, signs.encoding))
        groups = self._groups(span.children)
        for number, group in enumerate(groups, start=1):
            last = number == len(groups)
            branch, beyond = (signs.last, signs.blank) if last else (signs.branch, signs.stem)
            if len(group) == 1:
                yield from self._of(group[0], below + branch, below + beyond)
            else:
                yield self._left_out(group, below + branch)

    def _row(self, span: Span, stem: str) -> Row:
        call = span.kind in ("chat", "tool")
        took = Spent(1, span.usage, span.cost) if span.kind == "chat" else Spent()
        if span.kind == "agent":
            took = spent([span])
        return Row(
            stem=stem,
            look=span.kind,
            status=span.status,
            name=harmless(f"{span.name} {span.iteration or ''}", self._signs.encoding),
            bar=Bar(start=span.start, end=span.end, spoke=_spoke(span)),
            time=duration(span.seconds),
            share=percent(span.seconds, self._root.seconds),
            tokens=tokens(took, self._signs),
            cost=price(took),
            slowest=call and not span.children and span.seconds == self._longest,
            dearest=span.kind == "chat" and span.cost == self._most > 0,
        )

    def _left_out(self, group: Sequence[Span], stem: str) -> Row:
        took = spent(group)
        failed = sum(1 for span in group if _failed(span))
        retries = sum(len(each.retries) for span in group for each in span.walk())
        troubles = f"{f', {failed} with errors' if failed else ''}{f', {retries} retried' if retries else ''}"
        start, end = min(span.start for span in group), max(span.end for span in group)
        return Row(
            stem=stem,
            look="several",
            status="error" if failed else "ok",
            name=f"{self._signs.more} {len(group)} more{troubles}",
            bar=Bar(start=start, end=end),
            time=duration(end - start),
            share=percent(end - start, self._root.seconds),
            tokens=tokens(took, self._signs),
            cost=price(took),
        )

    def _groups(self, children: Sequence[Span]) -> list[list[Span]]:
        """The children, each alone, or many that follow each other as one."""
        if self._everything or len(children) <= _MANY:
            return [[child] for child in children]
        places = range(len(children))
        costs = [spent([child]).cost or 0.0 for child in children]
        shown = {*places[:_AT_ENDS], *places[-_AT_ENDS:]}
        shown |= {*sorted(places, key=lambda place: -children[place].seconds)[:_OUTSTANDING]}
        shown |= {
            *sorted((place for place in places if costs[place]), key=lambda place: -costs[place])[
                :_OUTSTANDING
            ]
        }
        shown |= {*[place for place in places if _failed(children[place])][:_OUTSTANDING]}
        groups: list[list[Span]] = []
        for alone, run in groupby(places, key=lambda place: place in shown):
            spans = [children[place] for place in run]
            groups += [[span] for span in spans] if alone or len(spans) == 1 else [spans]
        return groups


def foot(time: Time, models: dict[str, Spent], tools: int, signs: Signs) -> Iterator[Row]:
    """Where the time went and, by model, the money; without prices the tokens. The bars begin at 0 and end at the total's seconds."""
    total = sum(models.values(), Spent())
    parts: list[tuple[Look, str, float]] = [
        ("chat", f"models, {counted(total.calls, 'call')}", time.models),
        ("tool", f"tools, {counted(tools, 'call')}", time.tools),
        ("own", "idle and own", time.own),
    ]
    title = "time"
    for look, name, seconds in parts:
        if seconds > _NOTHING:
            bar, share = Bar(start=0.0, end=seconds), percent(seconds, time.seconds)
            yield Row(look=look, name=f"{title:<7}{name}", bar=bar, time=duration(seconds), share=share)
            title = ""
    yield from _money(models, total, time.seconds, signs)


def _money(models: dict[str, Spent], total: Spent, seconds: float, signs: Signs) -> Iterator[Row]:
    """The dearest models, and the others in one row."""
    title = "tokens" if total.cost is None else "money"
    whole = _weight(total, total)
    if not whole:
        return
    shown = list(models.items())
    if len(shown) > _MODELS:
        others = sum((took for _, took in shown[_MODELS - 1 :]), Spent())
        shown = [*shown[: _MODELS - 1], (f"{signs.more} {len(shown) - _MODELS + 1} more models", others)]
    for number, (model, took) in enumerate(shown):
        weight = _weight(took, total)
        named = harmless(model, signs.encoding) or "model unknown"
        yield Row(
            look="money",
            name=f"{'' if number else title:<7}{named}, {counted(took.calls, 'call')}",
            bar=Bar(start=0.0, end=seconds * weight / whole) if weight else None,
            share=percent(weight, whole) if weight else "",
            tokens=tokens(took, signs),
            cost=price(took) or ("" if total.cost is None else "unknown"),
        )


def _weight(took: Spent, total: Spent) -> float:
    """How much it is: dollars where any are known, else tokens."""
    if total.cost is None:
        return took.usage.total_tokens if took.usage else 0
    return took.cost or 0.0


def tokens(took: Spent, signs: Signs) -> str:
    """For example "1.2k→85"; empty when nobody said."""
    usage = took.usage
    return f"{shortly(usage.input_tokens)}{signs.arrow}{shortly(usage.output_tokens)}" if usage else ""


def price(took: Spent) -> str:
    """For example "$0.0125"; empty when nobody knows."""
    return "" if took.cost is None else dollars(took.cost)


def _spoke(span: Span) -> float | None:
    """Until when a model kept one waiting: for ever, when nothing came."""
    if span.kind != "chat":
        return None
    if span.first_token is None:
        return span.start if span.status == "ok" else span.end
    return span.start + span.first_token


def _notes(span: Span, signs: Signs) -> Iterator[tuple[SpanStatus, str]]:
    """What is to be said about a span: its retries, and why it ended badly, unless a span within it says the same."""
    if span.retries:
        yield "waiting", f"{signs.again} {_tried(span.retries)}, {_said(span.retries[-1].error)}"
    error = span.error
    if error is not None and all(each.error != error for child in span.children for each in child.walk()):
        yield span.status, _said(error)


def _said(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def _tried(retries: Sequence[Retry]) -> str:
    """For example "1 retry, then gpt-4o-mini": how often a model was asked again, and who was asked next."""
    said: list[str] = []
    for then, group in groupby(retries, key=lambda retry: retry.then):
        said += [f"then {then}"] if then else [counted(len([*group]), "retry")]
    return ", ".join(said)


def _failed(span: Span) -> bool:
    return any(each.status == "error" for each in span.walk())
