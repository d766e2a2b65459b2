"""Everything looopy raises, as one tree ordered by what the reader can do about it.

LooopyError                                                     .retryable .result
├── ConfigurationError      mend the call that built it         .argument
│   ├── ToolSchemaError         mend the function's signature       .tool .parameter
│   ├── MissingExtra            install it                          .extra
│   └── WrongThread             await instead of blocking
├── ModelError              the provider failed                 .model .url .status .call_id .body
│   ├── ProxyUnreachable        start the proxy, mend the URL
│   ├── ModelTimeout            wait longer, or ask for less        .clock .seconds
│   ├── AuthenticationFailed    set the right key
│   ├── UnknownModel            choose one that is offered          .offered
│   ├── ModelRejected           mend the request
│   │   ├── ContextTooLong          shorten the conversation            .index
│   │   ├── ContentRefused          the provider's policy says no
│   │   ├── NoEmbeddings            choose a model that embeds
│   │   └── UnsupportedParameter    leave the parameter out             .parameters
│   ├── ModelOverloaded         wait and try again                  .retry_after (s)
│   ├── ModelFailed             the server broke: try again
│   └── StreamBroken            the answer stopped half-way         .events_seen
├── LimitExceeded           raise the limit, or accept the stop .limit .allowed .spent
│   └── BudgetExceeded          another meter, or more on this one  .unit
├── OutputInvalid           mend the type, or ask more clearly  .problem .text .answers
├── ExtractionFailed        look at the text                    .problem .text
├── ToolFailed              mend the tool                       .tool .call_id
├── TaskCanceled            somebody cancelled                  .reason
├── BufferOverflow          read faster, or choose another rule .size
├── StoreFailed             the state could not be kept         .store
├── StateConflict           resume from what is stored          .task_id .expected .found
├── LangfuseFailed          check keys and address, or try later .status
├── NotResumable            start a new task                    .task_id .state
└── UnknownEvent            update looopy, or mend the record   .kind

An error that ends a task travels twice: as `Failure` on its last event, and as itself out of `await run`, where `.result` holds what
was reached until then. Failures that the *model* should read (a tool raised, its arguments were wrong) are not
exceptions: they are results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from looopy.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence


def words(error: BaseException) -> str:
    """What an error says, without credentials; its class's name when it says nothing, or cannot even say that."""
    try:
        # A KeyError's text is the key alone, which tells a model nothing.
        return redact(repr(error) if isinstance(error, KeyError) else str(error) or repr(error))
    except Exception:  # noqa: BLE001  an error that breaks while it is printed is not worth more words
        return type(error).__name__


class LooopyError(Exception):
    """The root of every exception that looopy raises.

    Attributes:
        retryable: whether the same call may succeed later without a change.
        result: the `RunResult` reached before the error ended a run; None outside of runs.
    """

    retryable: bool = False
    result: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by attributes, since the constructors take keywords."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    error_type: type[LooopyError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> LooopyError:
    error = error_type.__new__(error_type, *args)
    error.args = args  # a TimeoutError is an OSError, whose `__new__` leaves them empty
    error.__dict__.update(attributes)
    return error


class ConfigurationError(LooopyError, ValueError):
    """An argument cannot work, known when the object is built.

    Attributes:
        argument: the name of the argument or variable concerned.
    """

    def __init__(self, message: str, *, argument: str = "") -> None:
        super().__init__(message)
        self.argument = argument


class ToolSchemaError(ConfigurationError):
    """A function cannot be described to a model.

    Attributes:
        tool: the tool's name.
        parameter: the parameter concerned; empty when it is the tool itself.
    """

    def __init__(self, message: str, *, tool: str, parameter: str = "") -> None:
        super().__init__(message, argument=parameter or tool)
        self.tool = tool
        self.parameter = parameter


class MissingExtra(ConfigurationError, ImportError):
    """An optional package is needed and not installed; the message holds the `pip install` line.

    Attributes:
        extra: the name, or names, between the brackets of `pip install 'looopy[extra]'`.
    """

    def __init__(self, needed_by: str, *, needs: str, extra: str, more: str = "") -> None:
        line = f"pip install 'looopy[{extra}]'"
        super().__init__(f"{needed_by} needs {needs}: {line}{f' ({more})' if more else ''}", argument=extra)
        self.extra = extra


class WrongThread(ConfigurationError, RuntimeError):
    """A blocking call was made on a thread whose event loop it would block for ever."""


class ModelError(LooopyError):
    """A model call failed.

    Attributes:
        model: the model that was asked for.
        url: the address that was called, without credentials.
        status: the HTTP status, 0 where there was none.
        call_id: the proxy's `x-litellm-call-id`, to find the call in its logs; may be empty.
        body: what the server answered, shortened to 2,000 characters and without credentials.
        retry_after: seconds the server asks to wait; None when it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        url: str = "",
        status: int = 0,
        call_id: str = "",
        body: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.url = url
        self.status = status
        self.call_id = call_id
        self.body = body
        self.retry_after = retry_after


class ProxyUnreachable(ModelError):
    """No connection to the proxy: refused, unknown host, TLS, or cut before an answer began."""

    retryable = True


class ModelTimeout(ModelError, TimeoutError):
    """A clock ran out while waiting for the model.

    Attributes:
        clock: which one: "connect", "first-token", "between-tokens" or "call".
        seconds: what it was set to.
    """

    retryable = True

    def __init__(
        self, message: str, *, clock: str, seconds: float, model: str = "", url: str = "", status: int = 0
    ) -> None:
        super().__init__(message, model=model, url=url, status=status)
        self.clock = clock
        self.seconds = seconds


class AuthenticationFailed(ModelError):
    """The key is missing, wrong, or may not use this model."""


class UnknownModel(ModelError):
    """The proxy has no such model.

    Attributes:
        offered: the names that the proxy lists; empty when it would not say.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        url: str,
        status: int = 0,
        offered: Sequence[str] = (),
        body: str = "",
    ) -> None:
        super().__init__(message, model=model, url=url, status=status, body=body)
        self.offered = tuple(offered)


class ModelRejected(ModelError):
    """The request itself is refused (400, 413, 422): sending it again does not help."""


class ContextTooLong(ModelRejected):
    """The conversation, or a text to embed, does not fit the model's context.

    Attributes:
        index: which of the texts to embed, from 0; None where it is the conversation.
    """

    index: int | None = None


class ContentRefused(ModelRejected):
    """The provider's content policy refused the request."""


class NoEmbeddings(ModelRejected):
    """The model gives no embeddings: it is made for chat, or nobody offers its embeddings."""


class UnsupportedParameter(ModelRejected):
    """The model does not take a parameter that was sent.

    Attributes:
        parameters: their names, as far as the server names them.
    """

    def __init__(
        self,
        message: str,
        *,
        parameters: Sequence[str] = (),
        model: str = "",
        url: str = "",
        status: int = 0,
        call_id: str = "",
        body: str = "",
    ) -> None:
        super().__init__(message, model=model, url=url, status=status, call_id=call_id, body=body)
        self.parameters = tuple(parameters)


class ModelOverloaded(ModelError):
    """Too many requests, or no capacity (429, 503, 529): wait `retry_after` seconds and try again."""

    retryable = True


class ModelFailed(ModelError):
    """The proxy or the provider broke (5xx), or answered something that is no chat completion."""

    retryable = True


class StreamBroken(ModelError):
    """The answer began and did not end: cut, or an error in mid-stream.

    Attributes:
        events_seen: how many pieces had been shown; a retry is safe only when it is 0.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        events_seen: int = 0,
        model: str = "",
        url: str = "",
        status: int = 0,
        call_id: str = "",
        body: str = "",
    ) -> None:
        super().__init__(message, model=model, url=url, status=status, call_id=call_id, body=body)
        self.events_seen = events_seen


class LimitExceeded(LooopyError):
    """A limit ended the task; `.result` keeps what was reached.

    Attributes:
        limit: its name, as written in `Limits` (or `max_iterations`).
        allowed: what it was set to.
        spent: what had been used when it struck.
    """

    def __init__(self, message: str, *, limit: str, allowed: float, spent: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed
        self.spent = spent


class BudgetExceeded(LimitExceeded):
    """A budget is spent: an answer was cut for it, or a model not asked.

    Attributes:
        limit: "tokens" or "cost", as written in `Budget`.
        allowed: what it was set to.
        spent: what the meter said when it struck, the estimate of what was under way included.
        unit: "tokens" or "USD".
    """

    def __init__(self, message: str, *, limit: str, allowed: float, spent: float, unit: str) -> None:
        super().__init__(message, limit=limit, allowed=allowed, spent=spent)
        self.unit = unit


class OutputInvalid(LooopyError):
    """No answer fitted the `output_type`; `.result` keeps what was reached.

    Attributes:
        problem: what is wrong with the last answer, as a model is told.
        text: the last answer: what was said, or the arguments of the call that was to give it, as JSON.
        answers: how many were looked at.
    """

    def __init__(self, message: str, *, problem: str, text: str = "", answers: int = 1) -> None:
        super().__init__(redact(message))
        self.problem = problem
        self.text = text
        self.answers = answers


class ExtractionFailed(LooopyError, ValueError):
    """What was looked for in a text is not there, or is too broken.

    Attributes:
        problem: what is wrong with the text, without the mend.
        text: the text.
    """

    def __init__(self, problem: str, *, text: str, mend: str = "") -> None:
        super().__init__(redact(f"{problem}; {mend}" if mend else problem))
        self.problem = problem
        self.text = text


class ToolFailed(LooopyError):
    """A tool raised and the agent says `on_tool_error="raise"`; `__cause__` is what it raised.

    Attributes:
        tool: the tool's name.
        call_id: the call that failed.
    """

    def __init__(self, message: str, *, tool: str, call_id: str) -> None:
        super().__init__(redact(message))
        self.tool = tool
        self.call_id = call_id


class TaskCanceled(LooopyError):
    """The run was cancelled: by `Run.cancel`, or because its last subscriber left.

    Attributes:
        reason: who or what asked for it.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class BufferOverflow(LooopyError):
    """A reader with `overflow="error"` fell too far behind.

    Attributes:
        size: how many events it may lag.
    """

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class StoreFailed(LooopyError):
    """A state or artifact could not be saved or loaded; `__cause__` is the store's own error.

    Attributes:
        store: the class of the store.
    """

    retryable = True

    def __init__(self, message: str, *, store: str) -> None:
        super().__init__(redact(message))
        self.store = store


class StateConflict(LooopyError):
    """Somebody else has carried the task on since its state was loaded, or there is a task of this id already.

    Attributes:
        task_id: the task.
        expected: number of the checkpoint that this run went on from; 0 for a new task.
        found: number of the checkpoint that is stored.
    """

    def __init__(self, *, task_id: str, expected: int, found: int) -> None:
        since = (
            f"has been carried on by somebody else since checkpoint {expected}"
            if expected
            else "is stored already"
        )
        super().__init__(
            f"task {task_id!r} {since} (the store has checkpoint {found}): resume it from there, or give a new task another id"
        )
        self.task_id = task_id
        self.expected = expected
        self.found = found


class LangfuseFailed(LooopyError):
    """Langfuse did not take a score, or did not say what it was asked.

    Attributes:
        status: the HTTP status; 0 when there was no answer.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status in (0, 408, 429) or status >= 500


class NotResumable(LooopyError):
    """The task is unknown, over, or does not wait for the inputs that were given.

    Attributes:
        task_id: the task.
        state: the state it is in; empty when it is unknown.
    """

    def __init__(self, message: str, *, task_id: str, state: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id
        self.state = state


class UnknownEvent(LooopyError, ValueError):
    """A recorded event cannot be read: broken JSON, or of a kind this version does not know.

    Attributes:
        kind: its `kind`, as far as it could be read.
    """

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
