"""Where spans and metrics go: which providers of OpenTelemetry's SDK, and what hangs on them.

Options and environment decide which destinations there are (`sending/destinations.py`). A tracer provider that is there already is used as it is. Else,
where there is a destination, one is made and becomes the global one; where there is none, no spans are made. With `tracer.py`, `light.py` and `sending/` the only
module that knows the SDK.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, TracerProvider

from looopy.errors import ConfigurationError, MissingExtra
from looopy.observe.langfuse.account import Account
from looopy.observe.options import Options, misread
from looopy.observe.switches import disabled, sends_metrics, sends_traces, switched_off

try:
    from opentelemetry.sdk.metrics import MeterProvider as SDKMeterProvider
    from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "looopy.observe.instrument",
        needs="opentelemetry-sdk",
        extra="otel",
        more="or 'looopy[otel,cli]' for console=True",
    ) from missing

from looopy.observe.faults import Faults
from looopy.observe.light import LightTracer
from looopy.observe.meters import LightMeters
from looopy.observe.metrics import Meter
from looopy.observe.opened import MakesSpans
from looopy.observe.sending.destinations import Destination, Outlet, at_once
from looopy.observe.sending.otlp import OTLPExporter
from looopy.observe.sending.push import url_of
from looopy.observe.tracer import CarefulTracer, Provider

if TYPE_CHECKING:
    from looopy.observe.langfuse.package import Attached

_SCHEMA = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"


class Pipeline:
    """Where the spans and the metrics of one `instrument` go.

    Args:
        options: what was asked for.
        before: adds up the metrics until now; goes on where it would be made again just so.

    Attributes:
        faults: what was kept from runs.
        tracer: makes looopy's spans.
        meter_provider: takes the metrics; None for nobody.
        account: the Langfuse project that spans go to; None for none.
        where: where spans and metrics go, each in words; empty for nowhere.
        meters: what adds the metrics up, where it was made here and is to be closed here; else None.
    """

    def __init__(self, options: Options, before: LightMeters | None = None) -> None:
        self.faults = Faults()
        self.account = _account(options)
        resource = _resource(options)
        there = options.tracer_provider or _global()
        self._destinations = _destinations(options, self.account, own=there is None)
        made = there is None and bool(self._destinations or self.account)
        provider = there or (_provider(resource, options.sample_rate) if made else NoOpTracerProvider())
        self._attached = _langfuse(options, self.account, provider, self._destinations)
        self._outlet = Outlet.of(provider) if self._destinations or made else None
        self.tracer = CarefulTracer(_tracer(provider), self._outlet, self.faults)
        self.meter_provider, self.meters = _meters(options, resource, before)
        self.where = tuple(self._where(theirs=there is not None))
        self._told = 0

    def _where(self, *, theirs: bool) -> Iterator[str]:
        yield from (destination.name for destination in self._destinations)
        if self.account is not None and self._attached is not None:
            yield _named(self.account)
        if theirs:
            yield "your tracer provider"
        if self.meter_provider is not None:
            yield "metrics by OTLP" if self.meters else "your meter provider"

    @property
    def ended(self) -> bool:
        """Whether the program has shut the provider down, and with it what spans would go to."""
        return self._outlet is not None and self._outlet.ended

    @property
    def delivered(self) -> int:
        """Spans that exporters have taken."""
        return sum(each.delivered for each in self._counted)

    @property
    def lost(self) -> int:
        """Spans that could not be made, that there was no room for, or that exporters have refused; of several exporters each one's."""
        return self.faults.lost + sum(each.lost for each in self._counted)

    @property
    def _counted(self) -> list[Destination | Attached]:
        return [*self._destinations, *([self._attached] if self._attached else [])]

    def open(self) -> None:
        """Let spans go there from now on."""
        if self._outlet is not None:
            self._outlet.lead_to(self._destinations)

    def flush(self, seconds: float) -> bool:
        """Send what is waiting; whether all of it was sent in that time, and nothing was lost since the last flush."""
        flushing: list[Callable[[], object]] = [destination.flush for destination in self._destinations]
        taken: list[bool] = []
        if self._attached is not None:
            flushing.append(self._attached.flush)
        meters = self.meters
        in_time = self._at_once(
            flushing, (lambda: taken.append(meters.flush(seconds))) if meters else None, seconds
        )
        before, self._told = self._told, sum(each.lost for each in self._counted)
        return in_time and all(taken) and self._told == before

    def give_way(self, new: Pipeline) -> None:
        """Let the spans that are still open here end there."""
        if self._outlet is not None and self._outlet is not new._outlet:
            self._outlet.lead_to(new._destinations)
        for destination in self._destinations:
            if any(destination.exporter is each.exporter for each in new._destinations):
                destination.spare()
        if self.meters is new.meters:
            self.meters = None

    def hurry(self) -> None:
        """The program ends: wait for no server that is not there."""
        for each in self._counted:
            each.hurry()

    def shutdown(self, seconds: float) -> None:
        """Send what is waiting, and nothing more from then on."""
        if not threading.main_thread().is_alive():
            self.hurry()
        if self._outlet is not None:
            self._outlet.leave(self._destinations)
        closing: list[Callable[[], object]] = [destination.shutdown for destination in self._destinations]
        if self._attached is not None:
            closing.append(self._attached.shutdown)
        self._at_once(closing, self.meters and self.meters.shutdown, seconds)
        for destination in self._destinations:
            destination.close()

    def _at_once(
        self, spans: Sequence[Callable[[], object]], metrics: Callable[[], object] | None, seconds: float
    ) -> bool:
        """Send both, at the same time but for a moment: what traces say of a server, metrics need not say again."""
        if metrics is None:
            return at_once(spans, seconds)
        said = threading.Event()

        def traces() -> None:
            at_once(spans, threading.TIMEOUT_MAX)
            said.set()

        def rest() -> None:
            said.wait(seconds / 2)
            metrics()

        return at_once([traces, rest], seconds)


def _account(options: Options) -> Account | None:
    """The Langfuse project to send to."""
    if options.langfuse is False or (options.langfuse is None and options.exporters is not None):
        return None
    account = None if disabled() else Account.from_environment()
    if account is None:
        if options.langfuse and not (switched_off() or disabled()):
            raise ConfigurationError(
                f"instrument(langfuse={options.langfuse!r}): set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY (and LANGFUSE_BASE_URL, unless it is "
                "Langfuse's cloud)",
                argument="langfuse",
            )
        return None
    return replace(
        account,
        environment=options.environment or account.environment,
        release=options.release or account.release,
    )


def _resource(options: Options) -> Resource:
    """What the spans are of. The SDK reads OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME; what was passed goes before."""
    given = {
        SERVICE_NAME: options.service_name,
        "deployment.environment.name": options.environment,
        "service.version": options.release,
    }
    resource = Resource.create({name: value for name, value in given.items() if value})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: "looopy"}))
    return resource


def _global() -> TracerProvider | None:
    """The program's own tracer provider; None where it has none, or only one that was made here."""
    there = trace.get_tracer_provider()
    return None if isinstance(there, ProxyTracerProvider) or there in _made.values() else there


_made: dict[tuple[object, ...], Provider] = {}
"""The providers that were made here: the newest, and the program's global one. None is closed: it is only led elsewhere."""


def _provider(resource: Resource, rate: float | None) -> Provider:
    """A provider for such spans; the first one becomes the global one."""
    key = (tuple(sorted(resource.attributes.items(), key=str)), rate, os.environ.get("OTEL_TRACES_SAMPLER"))
    if key not in _made:
        try:
            made = Provider(resource, None if rate is None else ParentBased(TraceIdRatioBased(rate)))
        except ValueError as error:
            raise misread(error) from error
        if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
            trace.set_tracer_provider(made)
        for old in [old for old, provider in _made.items() if provider is not trace.get_tracer_provider()]:
            del _made[old]  # whoever still has open spans of it keeps it as long
        _made[key] = made
    return _made[key]


def _tracer(provider: TracerProvider) -> MakesSpans:
    """What makes looopy's spans on a provider."""
    tracer = trace.get_tracer("looopy", version("looopy"), provider, _SCHEMA)
    if isinstance(provider, Provider):
        return LightTracer(provider, tracer, InstrumentationScope("looopy", version("looopy"), _SCHEMA))
    return tracer


def _destinations(options: Options, account: Account | None, *, own: bool) -> list[Destination]:
    """The exporters that are looopy's to feed."""
    if options.exporters is not None:
        return [Destination(type(exporter).__name__, exporter) for exporter in options.exporters]
    if not (own and sends_traces()):
        return []
    exporter = OTLPExporter.from_environment()
    if account is not None and exporter.url == account.endpoint:
        return []  # the same place under both names: every span would be there twice
    return [Destination(f"OTLP at {exporter.url}", exporter)]


def _langfuse(
    options: Options, account: Account | None, provider: TracerProvider, destinations: list[Destination]
) -> Attached | None:
    """The way to Langfuse: its package, or else one destination more."""
    if account is None:
        return None
    if options.langfuse != "otlp" and (options.langfuse == "package" or find_spec("langfuse") is not None):
        from looopy.observe.langfuse.package import attach  # half a second

        return attach(account, cast("SDKTracerProvider", provider))
    destinations.append(Destination(_named(account), account.exporter(), takes=account.samples))
    return None


def _named(account: Account) -> str:
    return f"Langfuse at {account.base_url}"


def _meters(
    options: Options, resource: Resource, before: LightMeters | None
) -> tuple[MeterProvider | Meter | None, LightMeters | None]:
    """Who takes the metrics, and what of it is to be closed, where it was made here: those before, if they would be made just so."""
    if options.meter_provider is not None:
        return options.meter_provider, None
    there = metrics.get_meter_provider()
    if isinstance(there, SDKMeterProvider):
        return there, None
    if not sends_metrics():
        return None, None
    _check_exporter_of_metrics()
    key = (resource, tuple(item for item in sorted(os.environ.items()) if item[0].startswith("OTEL_")))
    made = before if before is not None and _keys.get(before) == key else LightMeters(resource=resource)
    _keys[made] = key
    return made, made


_keys: WeakKeyDictionary[LightMeters, object] = WeakKeyDictionary()
"""What the meters were made from that were made here."""


def probe_metrics() -> tuple[bool, str]:
    """Send metrics, none, to where they would be sent, and say whether they were taken, and where; the exporter logs why not. Blocks.

    Raises:
        MissingExtra: the package that sends them is not installed.
    """
    _check_exporter_of_metrics()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter: Any = OTLPMetricExporter()  # half typed
    taken = exporter.export(MetricsData([])) is MetricExportResult.SUCCESS
    exporter.shutdown()
    return taken, url_of(exporter)


def _check_exporter_of_metrics() -> None:
    if find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise MissingExtra(
            "sending metrics by OTLP", needs="opentelemetry-exporter-otlp-proto-http", extra="otel"
        )
