"""Records of made-up runs, to the hundredth of a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from looopy import Message, Usage
from looopy.events import (
    ContentDelta,
    Event,
    Failure,
    LLMCall,
    LLMResponse,
    LLMRetry,
    Status,
    StatusUpdate,
    Task,
    TaskState,
    ToolComplete,
    ToolStart,
    stamp,
)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON = START.timestamp()


class Recorded:
    """The events of a task, each at a second after noon."""

    def __init__(self, task_id: str = "task-1", *, parent: str = "", path: tuple[str, ...] = ()) -> None:
        self.events: list[Event] = []
        self._task_id, self._parent, self._path = task_id, parent, path

    def at(self, second: float, *events: Event) -> Recorded:
        for event in events:
            moment = START + timedelta(seconds=second)
            stamp(event, task_id=self._task_id, context_id="c", seq=len(self.events) + 1, timestamp=moment)
            object.__setattr__(event, "parent_task_id", self._parent)
            object.__setattr__(event, "path", self._path)
            self.events.append(event)
        return self

    def asks(
        self,
        begin: float,
        first: float | None,
        end: float,
        *,
        iteration: int = 1,
        model: str = "gpt-4o",
        usage: tuple[int, int] | None = None,
        cost: float | None = None,
    ) -> Recorded:
        self.at(begin, LLMCall(iteration=iteration, model=model))
        if first is not None:
            self.at(first, ContentDelta(delta="…"))
        tokens = Usage(input_tokens=usage[0], output_tokens=usage[1]) if usage else None
        return self.at(end, answer(model=model, usage=tokens, cost=cost))

    def uses(self, begin: float, end: float, tool: str, *, error: Failure | None = None) -> Recorded:
        self.at(begin, ToolStart(call_id=tool, tool_name=tool))
        return self.at(end, ToolComplete(call_id=tool, tool_name=tool, error=error))


def answer(**fields: Any) -> LLMResponse:
    return LLMResponse(message=Message("assistant", "…"), **fields)


def status(state: TaskState, *, error: Failure | None = None) -> StatusUpdate:
    return StatusUpdate(status=Status(state=state), final=state != "working", error=error)


def retry(error: Failure, model: str = "", then: str = "") -> Event:
    return LLMRetry(attempt=1, error=error, model=model, next_model=then)


TOO_SLOW = Failure(type="TimeoutError", message="the index did not\nanswer in 5 s")


def research() -> list[Event]:
    """A planner that searches, which fails, and at the same time asks another agent."""
    planner = Recorded().at(0, Task(agent_id="planner")).at(0.01, status("working"))
    planner.asks(0.02, 1.1, 3.1, usage=(1200, 80), cost=0.01)
    planner.at(3.15, ToolStart(call_id="1", tool_name="search"))
    planner.at(3.16, ToolStart(call_id="2", tool_name="researcher"))
    researcher = Recorded("task-2", parent="task-1", path=("planner", "researcher"))
    researcher.at(3.2, Task(agent_id="researcher")).at(3.21, status("working"))
    researcher.asks(3.22, 3.6, 5.2, model="gpt-4o-mini", usage=(700, 300), cost=0.0009)
    planner.events += researcher.at(5.25, status("completed")).events
    planner.at(5.3, ToolComplete(call_id="2", tool_name="researcher", result="…"))
    planner.at(8.2, ToolComplete(call_id="1", tool_name="search", error=TOO_SLOW))
    planner.asks(8.4, 11.5, 14.9, iteration=2, usage=(6200, 640), cost=0.0302)
    return planner.at(15, status("completed")).events


def crawl(pages: int, *, slow: int = 0, broken: int = 0) -> list[Event]:
    """As many iterations of two seconds, each a model call and a tool call; one that takes 20 seconds longer, one that fails."""
    crawler = Recorded().at(0, Task(agent_id="crawler"), status("working"))
    begin = 0.0
    for page in range(1, pages + 1):
        crawler.asks(
            begin, begin + 0.5, begin + 1, iteration=page, usage=(100 * page, 50), cost=0.0001 * page
        )
        end = begin + (22 if page == slow else 2)
        lost = Failure(type="HTTPError", message="404") if page == broken else None
        crawler.uses(begin + 1, end, "fetch", error=lost)
        begin = end
    return crawler.at(begin, status("completed")).events
