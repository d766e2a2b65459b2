"""What of a failure may be said where no content may: its kind, and looopy's own words for it.

Servers, models, tools and plugs quote in their errors what they failed on. So of a text only the beginning is shown, which looopy has written,
and of a failure whose text is not looopy's nothing but the kind.
"""

from __future__ import annotations

import re

from looopy.errors import (
    BudgetExceeded,
    BufferOverflow,
    LimitExceeded,
    ModelError,
    OutputInvalid,
    StateConflict,
    StoreFailed,
    TaskCanceled,
    ToolFailed,
)
from looopy.events import Failure
from looopy.messages import whole
from looopy.redaction import redact

ABANDONED = "Abandoned"
"""The kind of failure of a run whose end nobody will hear of."""


def kind(failure: Failure) -> str:
    """The class of the error; OpenTelemetry's `_OTHER` where a plug says something else in its place, which might be anything."""
    said = failure.type
    return said if _CLASS.fullmatch(said) and redact(said) == said else "_OTHER"


def told(failure: Failure) -> str:
    """What failed, in one line: the kind, and the words of looopy's own that there are, without what they quote."""
    said = own_words(failure)
    return f"{kind(failure)}: {said}" if said else kind(failure)


def own_words(failure: Failure) -> str:
    """What looopy itself says of a failure, without what it quotes; empty where the words are somebody else's."""
    line = failure.message[: 8 * _MOST].partition("\n")[0]
    if failure.type in _WHOLE:
        shown = line
    elif failure.type in _BEGINNING:
        shown = _QUOTES.split(line, 1)[0]
    elif failure.type in _OF_MODELS and (opening := _OPENING.match(line)):
        shown = opening[0] + _QUOTES.split(line[opening.end() :], 1)[0]
    else:
        return ""
    return whole(redact(shown)[:_MOST])


def _names(base: type) -> frozenset[str]:
    return frozenset({base.__name__}).union(*map(_names, base.__subclasses__()))


_CLASS = re.compile(r"[^\W\d][\w.]{0,127}", re.ASCII)
_MOST = 500  # characters of looopy's own words
_QUOTES = re.compile(r"[:;.] |[:;.]$")
"""Where looopy's own words end: what comes then is a quotation, or advice."""

_WHOLE = {
    ABANDONED,
    *(each.__name__ for each in (LimitExceeded, BudgetExceeded, TaskCanceled, BufferOverflow, StateConflict)),
}
_BEGINNING = {each.__name__ for each in (ToolFailed, OutputInvalid, StoreFailed)}
_OF_MODELS = _names(ModelError)
_OPENING = re.compile(
    r"LiteLLM (?:(?:API )?error|request timeout after [\d.e+-]+ s \([a-z-]+\)): |(?=LiteLLM error for model |[^:]{1,200}, as scripted)"
)
"""How looopy begins what it says of a proxy, of LiteLLM in its own process, or of a scripted model; what another provider says is its own."""
