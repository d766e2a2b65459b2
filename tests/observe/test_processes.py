"""Recording over the life of a process: from the first call with nothing but variables to the end, and across forks."""

from __future__ import annotations

import os
import socket

import pytest

from observe.children import ran
from observe.langfuse_server import LangfuseServer
from observe.receiver import Receiver, status, tree
from observe.watched import TREE


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


# ---------------------------------------------------------------------------------------------------------------- the end
def test_a_program_that_ends_right_after_its_run_has_delivered_all_of_it(receiver: Receiver) -> None:
    out, err = ran(
        """
        instrument()
        tell(asyncio.run(answer()))
        tell(agent().execute("2 + 3?").result(5).output)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_SERVICE_NAME="adder",
    )
    assert (out, err) == ("5\n5\n", "")
    assert tree(receiver.spans) == f"{TREE}\n{TREE}"
    assert {span.resource["service.name"] for span in receiver.spans} == {"adder"}


def test_a_program_that_ends_with_an_error_or_sys_exit_has_delivered_all_of_it(receiver: Receiver) -> None:
    ran(
        """
        instrument()
        asyncio.run(answer())
        sys.exit(0)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert tree(receiver.spans) == TREE


def test_a_program_that_ends_while_a_run_is_under_way_says_so_on_its_spans(receiver: Receiver) -> None:
    ran(
        """
        instrument()
        reached = threading.Event()

        async def wait() -> str:
            reached.set()
            await asyncio.Event().wait()

        run = agent(calls("wait"), tools=[wait]).execute("wait").start()
        assert reached.wait(5)
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    abandoned = "ERROR: Abandoned: recording stopped before the run was over"
    assert (
        tree(receiver.spans)
        == f"""\
invoke_agent clerk [INTERNAL] {abandoned}
  agent.iteration [INTERNAL] {abandoned}
    chat scripted-model [CLIENT]
    execute_tool wait [INTERNAL] {abandoned}"""
    )


def test_a_receiver_that_never_answers_holds_the_end_for_five_seconds_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        out, err = ran(
            """
            import atexit

            atexit.register(lambda: tell(time.monotonic() - began))  # what is registered first is done last
            instrument()
            asyncio.run(answer())
            began = time.monotonic()
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
        )
    assert 4.5 < float(out) < 7
    assert err.startswith(f"6 of 6 spans were not sent to OTLP at {url}/v1/traces: ")


def test_what_hinders_traces_is_seen_where_nothing_configures_logging(receiver: Receiver) -> None:
    receiver.always(status(401))
    _, err = ran(
        """
        recording = instrument()
        for _ in range(3):
            asyncio.run(answer())
            recording.flush()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert err == (
        f"OTLP: could not export 6 spans to {receiver.traces_url}: it wants a credential (401), and none is sent: set "
        "OTEL_EXPORTER_OTLP_HEADERS (authorization=Bearer%20…; a space is written %20). (said once)\n"
    )


@pytest.mark.parametrize("langfuse", [False, "otlp", "package"])
def test_a_program_does_not_wait_at_its_end_for_a_receiver_that_is_not_there(langfuse: str | bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    out, err = ran(
        f"""
        import atexit, logging

        class Ear(logging.Handler):
            def emit(self, record):
                told.set()

        told = threading.Event()
        for handler in (logging.StreamHandler(), Ear(logging.WARNING)):
            logging.getLogger("looopy.observe").addHandler(handler)
        import looopy.observe.sending.otlp
        looopy.observe.sending.otlp._FIRST_WAIT = 4.5  # the end comes while it is waited for the second attempt
        atexit.register(lambda: tell(time.monotonic() - began))  # what is registered first is done last
        instrument(langfuse={langfuse!r})
        asyncio.run(answer())
        assert told.wait(10)
        began = time.monotonic()
        """,
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_BSP_SCHEDULE_DELAY="1",
        LANGFUSE_FLUSH_INTERVAL="0.001",
        OTEL_TRACES_EXPORTER="none" if langfuse else "otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=url,
        LANGFUSE_PUBLIC_KEY="pk-lf-1",
        LANGFUSE_SECRET_KEY="sk-lf-1",
        LANGFUSE_BASE_URL=url,
    )
    assert float(out) < 3
    first, *others = err.splitlines()
    assert "yet: nobody listens there (connection refused)" in first
    assert any("gave up, so " in line for line in others)


@pytest.mark.parametrize("flushes", ["recording.flush()", "pass"])
def test_a_receiver_that_refuses_traces_and_metrics_is_told_of_once(receiver: Receiver, flushes: str) -> None:
    receiver.always(status(404))
    _, err = ran(
        f"""
        recording = instrument()
        asyncio.run(answer())
        {flushes}
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_METRICS_EXPORTER="otlp",
    )
    assert {request.path for request in receiver.requests} == {"/v1/traces", "/v1/metrics"}
    # With warnings as errors, OpenTelemetry's own exporter leaves one of a socket.
    (told,) = [line for line in err.splitlines() if "OTLP" in line or "metrics" in line]
    assert told.startswith("OTLP: could not export 6 spans to ")


def test_a_receiver_of_traces_alone_is_told_of_with_the_mend(receiver: Receiver) -> None:
    url = f"{receiver.url}/v1/nothing"
    _, err = ran(
        """
        instrument()
        asyncio.run(answer())
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=url,
        OTEL_METRICS_EXPORTER="otlp",
    )
    assert tree(receiver.spans) == TREE
    assert err == (
        f"OTLP: metrics are not taken at {url} (Failed to export metrics batch code: 404, reason: Not Found): where a backend takes traces "
        "only, set OTEL_METRICS_EXPORTER=none; else check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT (said once; tried again at every interval)\n"
    )


# --------------------------------------------------------------------------------------------------- the global provider
def test_spans_of_the_program_and_of_runs_nest_both_ways_by_the_provider_that_is_made(
    receiver: Receiver,
) -> None:
    ran(
        """
        instrument()
        tracer = trace.get_tracer("web")

        def look() -> str:
            with tracer.start_as_current_span("SELECT"):
                return "seen"

        with tracer.start_as_current_span("GET /"):
            asyncio.run(answer(agent(calls("look"), says("done"), tools=[look])))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert (
        tree(receiver.spans)
        == """\
GET / [INTERNAL]
  invoke_agent clerk [INTERNAL]
    agent.iteration [INTERNAL]
      chat scripted-model [CLIENT]
      execute_tool look [INTERNAL]
        SELECT [INTERNAL]
    agent.iteration [INTERNAL]
      chat scripted-model [CLIENT]"""
    )


def test_a_programs_own_global_provider_is_used_and_nothing_is_exported_twice(receiver: Receiver) -> None:
    ran(
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        theirs = TracerProvider(resource=Resource.create({"service.name": "theirs"}))
        theirs.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(theirs)
        instrument()
        asyncio.run(answer())
        assert trace.get_tracer_provider() is theirs
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert tree(receiver.spans) == TREE
    assert {span.resource["service.name"] for span in receiver.spans} == {"theirs"}


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ("", {}),
        ("console=True", {}),
        ("exporters=()", {}),
        ("", {"OTEL_METRICS_EXPORTER": "otlp"}),
        (
            "",
            {
                "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
                "LANGFUSE_SECRET_KEY": "sk-lf-1",
                "LANGFUSE_TRACING_ENABLED": "false",
            },
        ),
    ],
)
def test_a_recording_that_sends_no_traces_makes_no_spans_and_leaves_the_global_provider_to_the_program(
    options: str, variables: dict[str, str], receiver: Receiver
) -> None:
    out, err = ran(
        f"""
        from opentelemetry.sdk.trace import TracerProvider

        instrument({options})
        above = trace.SpanContext(0xA1, 0xB2, is_remote=True, trace_flags=trace.TraceFlags(1))

        def look() -> str:
            tell(trace.get_current_span().get_span_context() == above)

        with trace.use_span(trace.NonRecordingSpan(above)):
            run = agent(calls("look"), says("done"), tools=[look]).execute("look")
            tell(run.result(5).trace_id == f"{{0xA1:032x}}")
        theirs = TracerProvider()
        trace.set_tracer_provider(theirs)
        tell(trace.get_tracer_provider() is theirs)
        """,
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=receiver.metrics_url,
        **variables,
    )
    assert out == "True\nTrue\nTrue\n"
    assert "Overriding" not in err


def test_an_exchange_of_what_is_recorded_loses_no_span_and_doubles_none(receiver: Receiver) -> None:
    ran(
        """
        instrument()
        asyncio.run(answer())
        instrument(capture_content=True)
        asyncio.run(answer())
        instrument(service_name="other")
        asyncio.run(answer())
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert tree(receiver.spans) == f"{TREE}\n{TREE}\n{TREE}"


# ------------------------------------------------------------------------------------------------------- the langfuse package
@pytest.mark.parametrize(
    "between", ["pass", "recording.shutdown()"], ids=["while the first is on", "after the first is off"]
)
@pytest.mark.parametrize("more", ["", "capture_content=True"])
def test_recording_to_langfuse_can_be_switched_on_again(between: str, more: str) -> None:
    with LangfuseServer() as server:
        account = server.account()
        _, err = ran(
            f"""
            recording = instrument()
            asyncio.run(answer())
            {between}
            again = instrument({more})
            if again is not recording:
                recording.shutdown()  # waits for the thread in which it ends
            asyncio.run(answer())
            """,
            LANGFUSE_PUBLIC_KEY=account.public_key,
            LANGFUSE_SECRET_KEY=account.secret_key,
            LANGFUSE_BASE_URL=server.url,
        )
        assert err == ""
        assert tree(server.spans) == f"{TREE}\n{TREE}"


# ------------------------------------------------------------------------------------------------------------------ forks
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_fork_records_and_delivers_its_own_runs_and_nothing_of_its_parents(receiver: Receiver) -> None:
    out, err = ran(
        """
        recording = instrument()
        asyncio.run(answer())
        child = os.fork()
        if not child:
            tell((recording.delivered, recording.lost))
            tell(asyncio.run(answer()))
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        tell(asyncio.run(answer()))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert (out, err) == ("(0, 0)\n5\n5\n", "")
    assert tree(receiver.spans) == f"{TREE}\n{TREE}\n{TREE}"


@needs_fork
def test_a_fork_from_within_a_run_does_not_end_its_parents_spans(receiver: Receiver) -> None:
    _, err = ran(
        """
        instrument()

        def fork() -> str:
            child = os.fork()
            if not child:
                try:
                    agent().execute("2 + 3?").result(5)
                finally:
                    import atexit
                    atexit._run_exitfuncs()
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            return "forked"

        asyncio.run(answer(agent(calls("fork"), says("done"), tools=[fork])))
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert err == ""
    inner = "\n".join(f"      {line}" for line in TREE.splitlines())
    assert (
        tree(receiver.spans)
        == f"""\
invoke_agent clerk [INTERNAL]
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]
    execute_tool fork [INTERNAL]
{inner}
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]"""
    )


@needs_fork
def test_workers_of_multiprocessing_deliver_what_they_record(receiver: Receiver) -> None:
    out, err = ran(
        """
        import multiprocessing

        instrument()

        def work():
            asyncio.run(answer())

        workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        tell([worker.exitcode for worker in workers])
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
    )
    assert (out, err) == ("[0, 0, 0]\n", "")
    assert tree(receiver.spans) == f"{TREE}\n{TREE}\n{TREE}"
