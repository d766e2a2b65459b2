"""`run` and `chat` record what they do where the environment says where to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe.receiver import Receiver, tree

from looopy.testing import ScriptedServer, says

from .command import APP, done

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="exit codes of signals")

TREE = """\
invoke_agent tester [INTERNAL]
  agent.iteration [INTERNAL]
    chat scripted-model [CLIENT]"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def said(*command: str, folder: Path, typed: str = "", **variables: str) -> tuple[int, bool, str]:
    """The exit code, whether the answer was shown, and stderr."""
    with ScriptedServer(says("Hello."), says("Hello.")).running() as url:
        code, out, err = done(*command, folder=folder, typed=typed, URL=url, **variables)
    return code, "Hello." in out, err


def test_a_run_is_recorded_and_sent_before_the_command_ends(folder: Path, receiver: Receiver) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.traces_url}

    assert said("run", "app:agent", "Hi", folder=folder, **endpoint) == (0, True, "")
    assert tree(receiver.spans) == TREE
    assert "gen_ai.input.messages" not in receiver.spans[0].attributes


def test_the_conversation_is_recorded_where_the_variable_says_so(folder: Path, receiver: Receiver) -> None:
    endpoint = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.traces_url,
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
    }

    assert said("run", "app:agent", "Hi", folder=folder, **endpoint) == (0, True, "")
    assert any("gen_ai.input.messages" in span.attributes for span in receiver.spans)


def test_each_turn_of_a_chat_is_recorded(folder: Path, receiver: Receiver) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.traces_url}

    assert said("chat", "app:agent", folder=folder, typed="Hi\nHi\n", **endpoint) == (0, True, "")
    assert tree(receiver.spans) == f"{TREE}\n{TREE}"


def test_what_the_agents_own_code_records_is_not_recorded_twice(folder: Path, receiver: Receiver) -> None:
    own = "from looopy.observe import instrument\ninstrument(service_name='own')\n"
    (folder / "app.py").write_text(APP + own)
    endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.traces_url}

    assert said("run", "app:agent", "Hi", folder=folder, **endpoint) == (0, True, "")
    assert tree(receiver.spans) == TREE


def test_variables_that_cannot_work_are_said_and_the_run_goes_on(folder: Path) -> None:
    odd = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

    code, answered, err = said("run", "app:agent", "Hi", folder=folder, **odd)

    assert (code, answered) == (0, True)
    assert err.startswith("not recorded: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', ")


def test_without_the_sdk_what_is_missing_is_said_and_the_run_goes_on(folder: Path) -> None:
    without = "import sys\nsys.modules['opentelemetry.sdk'] = None\n"
    (folder / "app.py").write_text(without + APP)
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}

    code, answered, err = said("run", "app:agent", "Hi", folder=folder, **endpoint)

    assert (code, answered) == (0, True)
    assert err == (
        "not recorded, though OTEL_EXPORTER_OTLP_ENDPOINT is set: looopy.observe.instrument needs opentelemetry-sdk: pip install 'looopy[otel]'\n"
    )


def test_a_collector_that_is_not_there_is_not_waited_for(folder: Path) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_METRICS_EXPORTER": "none"}

    code, answered, err = said("run", "app:agent", "Hi", folder=folder, **endpoint)

    assert (code, answered) == (0, True)
    assert err.startswith(
        "OTLP: could not export 3 spans to http://localhost:1/v1/traces: nobody listens there"
    )
    assert len(err.splitlines()) == 1  # else a second says that there was no time at the end


def test_where_nothing_is_set_nothing_of_it_is_loaded(folder: Path) -> None:
    look = (
        "\nimport atexit, sys\n"
        "atexit.register(lambda: print([m for m in sys.modules if m.startswith('opentelemetry.sdk')], file=sys.stderr))\n"
    )
    (folder / "app.py").write_text(APP + look)

    assert said("run", "app:agent", "Hi", folder=folder) == (0, True, "[]\n")
