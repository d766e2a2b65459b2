"""The `langfuse` package as the way to Langfuse, where it is installed: its client on a provider of ours, once.

The client sends by looopy's own exporter, which counts, says what hinders it, and does what the package does not do by itself for spans that are
not its own: the chat view, environment and release. The sampling of a provider that it did not make is done at its filter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from looopy.errors import MissingExtra
from looopy.observe.forks import forget_in_forks
from looopy.observe.langfuse.account import Account
from looopy.observe.sending.otlp import OTLPExporter

try:
    from langfuse import Langfuse, is_default_export_span
    from langfuse._client.resource_manager import (  # pyright: ignore[reportMissingTypeStubs]
        LangfuseResourceManager,
    )
    from langfuse._client.span_processor import (  # pyright: ignore[reportMissingTypeStubs]
        LangfuseSpanProcessor,
    )
    from langfuse.types import MaskOtelSpansParams, MaskOtelSpansResult, OtelSpanPatch
except ImportError as missing:
    raise MissingExtra("looopy.observe.langfuse.package", needs="langfuse 5", extra="langfuse") from missing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

_log = logging.getLogger("looopy.observe")

_ours: WeakKeyDictionary[TracerProvider, dict[str, OTLPExporter]] = WeakKeyDictionary()
"""What the spans of a provider are sent by, where `attach` saw to it, for each public key."""


class Attached:
    """Langfuse on a provider.

    Attributes:
        flush: send what waits; blocks until it is sent or given up.
        shutdown: flush, and end the threads that were started for it; what was there before is left alone.
    """

    def __init__(
        self,
        flush: Callable[[], object],
        shutdown: Callable[[], object],
        exporter: OTLPExporter | None = None,
    ) -> None:
        """Begin to count.

        Args:
            flush: see above.
            shutdown: see above.
            exporter: what sends; None where that is somebody else's, so that nobody knows what becomes of spans.
        """
        self.flush = flush
        self.shutdown = shutdown
        self._exporter = exporter
        self._before = (exporter.delivered, exporter.lost) if exporter else (0, 0)
        forget_in_forks(self)

    def forked(self) -> None:
        """In a fork's child, where the exporter counts anew."""
        self._before = (0, 0)

    def hurry(self) -> None:
        """The program ends."""
        if self._exporter is not None:
            self._exporter.hurry()

    @property
    def delivered(self) -> int:
        """Spans that Langfuse has taken since then."""
        return self._exporter.delivered - self._before[0] if self._exporter else 0

    @property
    def lost(self) -> int:
        """Spans that it has not taken."""
        return self._exporter.lost - self._before[1] if self._exporter else 0


@dataclass(frozen=True, slots=True)
class Mask:
    """What a client made elsewhere needs to show looopy's runs as conversations: `Langfuse(mask_otel_spans=Mask(account))`.

    Attributes:
        account: the account that the client is for.
    """

    account: Account

    def __call__(self, *, params: MaskOtelSpansParams) -> MaskOtelSpansResult:
        """Rewrite the attributes of a batch of spans."""
        patches: dict[Any, OtelSpanPatch] = {}
        for identifier, span in params.spans.items():
            before = cast("dict[str, Any]", span.attributes)
            after = self.account.rewrite(before)
            if after is not before:
                patches[identifier] = OtelSpanPatch(
                    set_attributes={name: value for name, value in after.items() if name not in before},
                    delete_attributes=[name for name in before if name not in after],
                )
        return MaskOtelSpansResult(span_patches=patches)


def attach(account: Account, provider: TracerProvider) -> Attached:
    """Send a provider's spans to Langfuse by the `langfuse` package; where it does so already, nothing is added.

    Afterwards `langfuse.get_client()` is the client for this account, unless there was one before.

    Args:
        account: where to.
        provider: whose spans; the package exports those of looopy, of Langfuse's own decorators and of other GenAI instrumentations.
    """
    ours = _ours.setdefault(provider, {})
    if account.public_key in ours:
        return Attached(provider.force_flush, provider.force_flush, ours[account.public_key])
    client = _client(account)
    if _on(provider, account):
        if not (client and isinstance(client.mask_otel_spans, Mask)):
            _log.warning(
                "Langfuse is on this tracer provider already, so looopy adds nothing; messages will show as raw JSON there. To see "
                "conversations, let looopy come first, or make your client with Langfuse(mask_otel_spans=Mask(account)), which is in "
                "looopy.observe.langfuse"
            )
        return Attached(provider.force_flush, provider.force_flush)
    exporter = ours[account.public_key] = account.exporter(
        x_langfuse_sdk_name="python",
        x_langfuse_sdk_version=version("langfuse"),
        x_langfuse_public_key=account.public_key,
    )
    if client is not None:  # of another provider: a second client for the same key would be that one again
        processor = LangfuseSpanProcessor(
            public_key=account.public_key,
            secret_key=account.secret_key,
            base_url=account.base_url,
            should_export_span=_wanted(account),
            span_exporter=exporter,
        )
        provider.add_span_processor(processor)
        return Attached(processor.force_flush, processor.shutdown, exporter)
    langfuse = Langfuse(
        public_key=account.public_key,
        secret_key=account.secret_key,
        base_url=account.base_url,
        environment=account.environment or None,
        release=account.release or None,
        sample_rate=account.sample_rate,
        tracer_provider=provider,
        should_export_span=_wanted(account),
        span_exporter=exporter,
    )
    return Attached(langfuse.flush, langfuse.shutdown, exporter)


def _wanted(account: Account) -> Callable[[ReadableSpan], bool]:
    """Which spans go: what the package would send, and looopy's, of the traces that the sample rate takes."""

    def wanted(span: ReadableSpan) -> bool:
        scope = span.instrumentation_scope
        ours = scope is not None and scope.name.partition(".")[0] == "looopy"
        context = span.get_span_context()
        return (
            (ours or is_default_export_span(span))
            and context is not None
            and account.samples(context.trace_id)
        )

    return wanted


def _client(account: Account) -> LangfuseResourceManager | None:
    """What stands behind a client that exists for this key; the package has no public way to ask without making one."""
    return LangfuseResourceManager._instances.get(account.public_key)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _on(provider: TracerProvider, account: Account) -> bool:
    """Whether the provider sends to this account already, as far as the SDK lets one see it."""
    processors: Iterable[object] = getattr(
        getattr(provider, "_active_span_processor", None), "_span_processors", ()
    )
    return any(
        isinstance(each, LangfuseSpanProcessor) and each.public_key == account.public_key
        for each in processors
    )
