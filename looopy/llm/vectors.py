"""Texts as vectors: `embed`, and the call that it gives, for code with and without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from looopy.errors import ConfigurationError, WrongThread
from looopy.llm.defaults import embedder_for
from looopy.messages import JSON
from looopy.ports import Embedder, Embeddings, EmbedRequest
from looopy.threads import loop_here, running_loop

T = TypeVar("T")


def embed(
    texts: Sequence[str],
    *,
    model: str | None = "",
    fallback_model: str | None = "",
    dimensions: int | None = None,
    embedder: Embedder | None = None,
    session_id: str | None = "",
    user_id: str | None = "",
    tags: Sequence[str] | None = (),
    params: Mapping[str, JSON] | None = None,
) -> Pending[Embeddings]:
    """Turn texts into vectors: `await llm.embed([…])`, or `llm.embed([…]).result()` where no event loop runs. None leaves an option out as well.

    Args:
        texts: any number of them, none empty.
        model: the name as the proxy knows it; left out: LOOOPY_EMBEDDING_MODEL, or the embedder's own.
        fallback_model: takes the place of a model that gives no embeddings, a chat model for example; `.fell_back_from` then says so. Left out:
            LOOOPY_EMBEDDING_MODEL.
        dimensions: numbers in each vector, for models that can shorten them.
        embedder: who is asked; left out: the proxy at LITELLM_URL. It has a fallback and dimensions of its own.
        session_id: groups calls in the proxy's logs and in Langfuse.
        user_id: on whose behalf.
        tags: labels for logs and traces.
        params: further fields of the request's body, for example `{"input_type": "search_query"}`.

    Raises:
        ConfigurationError: a text is empty, an option cannot work, or there is no model or proxy.
    """
    if embedder is not None and (fallback_model or dimensions is not None):
        raise ConfigurationError(
            "embed(embedder=…) and fallback_model= or dimensions=: an embedder has its own, so pass them to it",
            argument="embedder",
        )
    model = model or ""
    asked = embedder or embedder_for(model, fallback_model=fallback_model or "", dimensions=dimensions)
    request = EmbedRequest(
        texts,
        model=model if embedder else "",
        session_id=session_id or "",
        user_id=user_id or "",
        tags=tuple(tags or ()),
        params=params or {},
    )
    return Pending(lambda: asked.embed(request))


class Pending(Awaitable[T], Generic[T]):
    """A call that is made when it is first awaited, or its result asked for; once, however often that is."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._future: Future[T] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        """What the call gives; cancelling the wait cancels the call."""
        return asyncio.wrap_future(self._begun()).__await__()

    def result(self, timeout: float | None = None) -> T:
        """What the call gives, for code without an event loop.

        Args:
            timeout: seconds to wait; the call is cancelled when they are over. None waits for ever.

        Raises:
            WrongThread: an event loop runs in this thread, and blocking would stop it; write `await`.
            TimeoutError: it took longer.
        """
        if running_loop() is not None and not (self._future and self._future.done()):
            raise WrongThread(
                "result() would block the event loop that runs in this thread: write `await` instead"
            )
        future = self._begun()
        try:
            return future.result(timeout)
        finally:
            future.cancel()  # does nothing to one that is done

    def _begun(self) -> Future[T]:
        with self._lock:
            if self._future is None:
                self._future = asyncio.run_coroutine_threadsafe(self._call(), loop_here())
            return self._future
