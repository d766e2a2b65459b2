"""One execution of a task, shared: an Observable of its events that any number may watch, await, iterate or cancel.

`loop.py` gives a cold stream; `Run` makes it run once. It keeps every event, so that a late subscriber sees all of them; it delivers them one
at a time, so that an event emitted inside a handler never overtakes the one being handled; and it keeps subscribers apart, so that one
that raises harms nobody.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Generic, NoReturn, cast

from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from typing_extensions import TypeVar

from looopy.errors import ConfigurationError, LooopyError, TaskCanceled, WrongThread
from looopy.events import (
    ContentDelta,
    ContentReset,
    Event,
    Failure,
    InputRequired,
    LLMCall,
    LLMResponse,
    TaskState,
    ThoughtDelta,
    ToolCallDelta,
    ToolProgress,
)
from looopy.loop import Execution
from looopy.messages import Message, Usage
from looopy.onloop import LoopScheduler, OnLoop, rx_is_interrupted
from looopy.reactive import Gate, from_awaitable, gate
from looopy.reader import Events, Overflow
from looopy.redaction import redact
from looopy.state import LoopState
from looopy.threads import loop_here, on_loop, running_loop, soon

REPLAY = 10_000
"""How many events are kept for late subscribers before deltas and progress are dropped: first those of finished model calls, then the older half
of the rest. Their sum is in `llm-response` and `tool-complete`, and those, like all other events, are never dropped."""

Out_co = TypeVar("Out_co", covariant=True, default=str)
"""What a run's answer is: text, or what `output_type` says."""

_PASSING = (ContentDelta, ThoughtDelta, ToolCallDelta, ContentReset, ToolProgress)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[Out_co]):
    """What a run came to.

    Attributes:
        output: the answer: its text, or a value of the `output_type`. Where there is none yet, because the run waits or ended early, the text so far.
        status: "completed", "failed", "canceled" or "input-required".
        messages: the conversation, without the system prompt; a model can go on from it. Where the run waits, `Message.tool(…)` of each call that is not
            answered must be added before.
        usage: tokens of all model calls.
        cost: US dollars, of the calls whose price is known; None while none is.
        iterations: model calls made.
        waiting: the questions that `resume` must answer, when the status is "input-required".
        error: why it failed or was canceled.
        task_id: the task.
        context_id: the conversation.
        trace_id: 32 hex digits: the trace of the run's spans, and what groups its model calls in the proxy's logs.
        trace_url: where to look at the trace; empty unless the run was recorded in Langfuse.
        repaired: the answer's JSON was broken, and `output` is what it most likely meant.
    """

    output: Out_co
    status: TaskState
    messages: tuple[Message, ...]
    usage: Usage
    cost: float | None
    iterations: int
    waiting: tuple[InputRequired, ...]
    error: Failure | None
    task_id: str
    context_id: str
    trace_id: str
    trace_url: str = ""
    repaired: bool = False


class Run(OnLoop[Event], Generic[Out_co]):
    """A task being worked on, as `Observable[Event]`.

    Nothing happens before the first subscriber (`subscribe`, `async for`, `await`, `result`, `start`); then there is one execution however many
    subscribe, and late ones get everything from the start. When the last one leaves, the run is cancelled.

    It lives on the loop of whoever came first: the loop that runs in that thread, else looopy's background loop. All of its
    handlers are called there. A handler that raises is reported to that loop's exception handler, and the run goes on.

    Attributes:
        task_id: the task.
        context_id: the conversation.
        trace_id: the trace of the run's spans, and what groups its model calls in the proxy's logs. With tracing on it is that of the span
            that `execute` was called in, or known once the run has begun.
    """

    def __init__(
        self,
        execute: Callable[[], Execution | Awaitable[Execution]],
        *,
        task_id: str,
        context_id: str,
        trace_id: str,
    ) -> None:
        super().__init__()
        self.task_id = task_id
        self.context_id = context_id
        self.trace_id = trace_id
        self._execute = execute
        self._execution: Execution | None = None
        self._lock = (
            threading.RLock()
        )  # a signal's handler, or a reader that is collected, may come in between
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = copy_context()
        self._gate = Gate()
        self._log: list[Event] = []
        self._room = REPLAY
        self._queue: deque[Event] = deque()
        self._arriving: deque[Callable[[], object]] = deque()
        self._subscribers: tuple[_Subscriber, ...] = ()
        self._begun = False
        self._delivering = False
        self._ended = False
        self._over = False
        self._bug: Exception | None = None
        self._cancelled: TaskCanceled | None = None

    def __repr__(self) -> str:
        return f"<Run {self.task_id} {self.status}>"

    if not TYPE_CHECKING:  # pragma: no branch  # a type checker must go on refusing what is not there

        def __getattr__(self, name: str) -> NoReturn:
            """Only called for what a run does not have."""
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in RunResult.__dataclass_fields__:
                said = f"a Run has no {name!r}, its result has: write `(await run).{name}`, or `run.result().{name}` where no event loop runs"
            raise AttributeError(said, name=name, obj=self)

    # ------------------------------------------------------------------------------------------------------------- to look at

    @property
    def state(self) -> LoopState | None:
        """The task's state after the newest event; None before it began."""
        return self._execution.state if self._execution else None

    @property
    def status(self) -> TaskState:
        """Where the task stands."""
        return self._execution.state.status.state if self._execution else "submitted"

    @property
    def done(self) -> bool:
        """Whether the last event has been delivered."""
        return self._over

    def trace(self, file: IO[str] | None = None) -> None:
        """Draw where the time and the money went until now: the tree of spans, a time bar for each, and sums. From any thread.

        Args:
            file: where to; left out: stdout.

        Raises:
            MissingExtra: rich is not installed; `pip install 'looopy[cli]'`.
            ConfigurationError: that is no open file.
        """
        if file is not None and not callable(getattr(file, "write", None)):
            raise ConfigurationError(
                f"run.trace({file!r}): it takes an open file: with open('out.txt', 'w') as file: run.trace(file)",
                argument="file",
            )
        from looopy.observe.pictures.picture import Origin, draw  # noqa: PLC0415  an optional package draws it

        state = self.state
        events = tuple(self._log)  # a copy of what is there: the run's own thread may be adding to it
        known: dict[str, Origin] = {}
        if state is not None:
            before = state.iteration - sum(isinstance(event, LLMCall) for event in events)
            known[self.task_id] = Origin(agent=state.agent_id, iterations=before, trace_id=self.trace_id)
        draw(events, file=file, until=None if self._over else datetime.now(UTC), origins=known)

    # ---------------------------------------------------------------------------------------------------------------- to use

    def start(self) -> Run[Out_co]:
        """Begin now, and go on with nobody watching. Returns the run itself."""
        self.subscribe(_ignore, _ignore)
        return self

    def cancel(self, reason: str = "the caller asked for it") -> None:
        """End the run with one `canceled` status: open requests are closed and tools cancelled at once. From any thread; later calls do nothing.

        Also from a handler that `signal.signal` has set, and from a finalizer, which come in between anywhere: where they interrupt RxPY itself it takes
        place at the next turn of the run's loop.
        """
        reason = redact(reason)
        error = TaskCanceled(f"the run was cancelled: {reason}", reason=reason)
        with self._lock:
            self._cancelled = self._cancelled or error
            loop = self._loop
        if loop is not None:
            act = soon if rx_is_interrupted() else on_loop
            act(loop, lambda: self._execution and self._execution.interrupt(error))

    def events(self, *, after: int = 0, buffer: int = 256, overflow: Overflow = "wait") -> Events:
        """The events for `async for`, from the start or from a cursor; leaving the loop unsubscribes at once.

        Args:
            after: skip events up to and including this `seq`.
            buffer: how many events this reader may lag behind.
            overflow: what happens when it lags more.
        """
        return Events(
            self, newest=self._newest, gate=self._gate, after=after, buffer=buffer, overflow=overflow
        )

    def _newest(self) -> int:
        return self._log[-1].seq if self._log else 0

    def __aiter__(self) -> Events:
        return self.events()

    def __await__(self) -> Generator[Any, None, RunResult[Out_co]]:  # pyright: ignore[reportIncompatibleMethodOverride]  # a run's outcome is more than its last event
        """The result; raises what ended the run early, with `.result` holding what was reached."""
        return self._finished().__await__()

    def result(self, timeout: float | None = None) -> RunResult[Out_co]:
        """The result, for code without an event loop: blocks until the run is over. Of one that is over, anywhere.

        Args:
            timeout: seconds to wait; the run is cancelled when they are over. None waits for ever.

        Raises:
            WrongThread: an event loop runs in this thread, and blocking would stop it; write `await run`.
            TimeoutError: it took longer.
            LooopyError: what ended the run early, with `.result` holding what was reached.
        """
        if self._over:
            return self._outcome()
        if running_loop() is not None:
            raise WrongThread(
                "run.result() would block the event loop that runs in this thread: write `await run` instead"
            )
        over = threading.Event()
        subscription = self.subscribe(_ignore, lambda _: over.set(), over.set)
        try:
            if not over.wait(timeout):
                raise TimeoutError(
                    f"run.result(timeout={timeout:g}): the run was not over by then, and is cancelled now"
                )
        finally:
            subscription.dispose()
        return self._outcome()

    async def _finished(self) -> RunResult[Out_co]:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def settle(_: Exception | None = None) -> None:
            on_loop(loop, lambda: over.done() or over.set_result(None))

        subscription = self.subscribe(_ignore, settle, settle)
        try:
            await over
        finally:
            subscription.dispose()
        return self._outcome()

    def _outcome(self) -> RunResult[Out_co]:
        if self._bug is not None:
            raise self._bug
        execution = cast("Execution", self._execution)  # a run that ended without a bug had one
        result, error = self._result(execution), execution.error
        if error is None:
            return result
        if isinstance(error, LooopyError):
            error.result = result
        raise error

    def _result(self, execution: Execution) -> RunResult[Out_co]:
        state, answer = execution.state, execution.answer
        return RunResult(
            output=cast("Out_co", state.output if answer is None else answer.value),
            status=state.status.state,
            messages=(*state.messages, *_answered(state)),
            usage=state.usage,
            cost=state.cost,
            iterations=state.iteration,
            waiting=state.waiting,
            error=state.error,
            task_id=self.task_id,
            context_id=self.context_id,
            trace_id=self.trace_id,
            trace_url=execution.watched.trace_url if execution.watched else "",
            repaired=answer is not None and answer.repaired,
        )

    # ------------------------------------------------------------------------------- the hub; all of it runs on the run's loop

    def _home(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._over:
                return None
            if self._loop is None:
                self._loop = loop_here()
                self._context = copy_context()
            loop = self._loop
        if loop.is_closed():
            # Nobody is left to carry the run on, so it ends here, on the thread that asks.
            self._close_down(
                TaskCanceled("the run's event loop was closed before it was over", reason="event loop closed")
            )
            return None
        return loop

    def _post(self, home: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
        with self._lock:
            over = self._over
            if not over:
                self._arriving.append(action)
        if over:
            action()
        else:
            on_loop(home, self._let_in)

    def _let_in(self) -> None:
        while self._arriving:
            self._arriving.popleft()()

    def _attach(
        self,
        observer: abc.ObserverBase[Event],
        scheduler: abc.SchedulerBase | None,  # noqa: ARG002
    ) -> abc.DisposableBase:
        subscriber = _Subscriber(observer, gone=self._left, report=self._report)
        seen = 0
        while missed := [event for event in self._log if event.seq > seen]:  # a handler may cause more
            for event in missed:
                subscriber.deliver(event)
            seen = missed[-1].seq
        if self._over:
            subscriber.finish(self._bug)
        else:
            self._subscribers = (*self._subscribers, subscriber)
            if not self._begun:
                self._begin()
        return Disposable(subscriber.leave)

    def _begin(self) -> None:
        self._begun = True
        self._context.run(gate.set, self._gate)
        try:
            # The operators of a model or a tool provider wait on this loop, and not on threads of theirs.
            scheduler = LoopScheduler(loop_here())
            self._context.run(
                lambda: self._opened().subscribe(self._emit, self._end, self._end, scheduler=scheduler)
            )
        except Exception as error:  # noqa: BLE001  a run that cannot begin must end, or its readers wait for ever
            self._end(error)

    def _opened(self) -> Observable[Event]:
        if inspect.iscoroutinefunction(self._execute):
            return from_awaitable(self._execute).pipe(ops.flat_map(self._under_way))
        return self._under_way(cast("Execution", self._execute()))

    def _under_way(self, execution: Execution) -> Observable[Event]:
        self._execution = execution
        self.context_id = execution.state.context_id
        if execution.watched is not None:
            self.trace_id = execution.watched.trace_id
        if self._cancelled is not None:
            execution.interrupt(self._cancelled)
        return execution.events

    def _close_down(self, error: TaskCanceled) -> None:
        with self._lock:
            if self._execution is not None:
                self._execution.interrupt(error)
            if not self._over:  # it had not begun, or what it was at the end of needs the loop
                self._end(error)

    def _emit(self, event: Event) -> None:
        self._queue.append(event)
        self._deliver()

    def _end(self, error: Exception | None = None) -> None:
        self._ended = True
        self._bug = error
        if self._execution is not None and self._execution.watched is not None:
            self._execution.watched.end(error)
        self._deliver()

    def _deliver(self) -> None:
        """Queue and drain: what a handler causes is delivered after what it handles."""
        if self._delivering:
            return
        self._delivering = True
        while self._queue:
            event = self._queue.popleft()
            if len(self._log) >= self._room:
                self._shorten()
            self._log.append(event)
            for subscriber in self._subscribers:
                subscriber.deliver(event)
        self._delivering = False
        if self._ended and not self._over:
            with self._lock:
                self._over = True
            for subscriber in self._subscribers:
                subscriber.finish(self._bug)
            self._subscribers = ()
            self._let_in()  # the loop may end before it comes to them

    def _shorten(self) -> None:
        finished = max(
            (place for place, event in enumerate(self._log) if isinstance(event, LLMResponse)), default=0
        )
        old = max(finished, len(self._log) // 2)
        self._log[:old] = [event for event in self._log[:old] if not isinstance(event, _PASSING)]
        self._room = max(REPLAY, 2 * len(self._log))

    def _left(self, subscriber: _Subscriber) -> None:
        """A subscriber has gone, on whatever thread it was disposed of, or collected."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)  # who subscribed has chosen it
        on_loop(loop, lambda: self._gone(subscriber))

    def _gone(self, subscriber: _Subscriber) -> None:
        """A subscriber has gone; with the last one goes the run."""
        self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)
        if not self._subscribers and not self._over:
            self.cancel("its last subscriber left")

    def _report(self, error: BaseException) -> None:
        """Tell the loop of a subscriber that raised. Who wants to exit the program leaves the loop, but not through the run."""
        loop = loop_here()
        if isinstance(error, KeyboardInterrupt | SystemExit):
            loop.call_soon_threadsafe(_raise, error)
            return
        loop.call_exception_handler(
            {"message": f"a subscriber of {self!r} raised; the run goes on", "exception": error}
        )


def _answered(state: LoopState) -> tuple[Message, ...]:
    """What tools gave in an answer of the model that others still wait in; the state has it apart until all are there."""
    return tuple(
        Message.tool(state.answers[call.id], tool_call_id=call.id)
        for call in state.pending
        if call.id in state.answers
    )


def _raise(error: BaseException) -> None:
    raise error


def _ignore(_: object) -> None:
    """A subscriber that only wants the run to go on."""


class _Subscriber:
    """One subscription, kept apart from the others."""

    __slots__ = ("_gone", "_observer", "_report", "left")

    def __init__(
        self,
        observer: abc.ObserverBase[Event],
        *,
        gone: Callable[[_Subscriber], None],
        report: Callable[[BaseException], None],
    ) -> None:
        self._observer = observer
        self._gone = gone
        self._report = report
        self.left = False

    def deliver(self, event: Event) -> None:
        if self.left:
            return
        try:
            self._observer.on_next(event)
        except BaseException as error:  # noqa: BLE001  a subscriber's bug stays the subscriber's
            self._report(error)

    def finish(self, bug: Exception | None) -> None:
        if self.left:
            return
        self.left = True
        try:
            if bug is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(bug)
        except BaseException as error:  # noqa: BLE001  a subscriber's bug stays the subscriber's
            self._report(error)

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self._gone(self)
