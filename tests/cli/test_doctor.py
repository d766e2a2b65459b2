"""`looopy doctor`: what it finds right and wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from looopy.cli.app import app
from looopy.testing import ScriptedServer, calls, fails, raw, says, thinks
from looopy.testing.standin import stand_in_answer

from .command import without_times

VARIABLES = (
    "LITELLM_URL", "LITELLM_API_KEY", "LOOOPY_MODEL", "LOOOPY_STAND_IN", "OPENAI_BASE_URL", "OPENAI_API_KEY",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME",
    "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGFUSE_BASE_URL", "LANGFUSE_HOST",
)  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return


def diagnosis(*arguments: str) -> tuple[int, list[str]]:
    """The exit code, and the lines about the proxy, times left out."""
    shown = CliRunner().invoke(app, ["doctor", *arguments])
    assert shown.stderr == ""
    told = [line for line in without_times(shown.stdout).splitlines() if line[:1] in "✔✘– "]
    return shown.exit_code, [
        line for line in told if line and not line.startswith("✔ looopy ") and " tracing " not in line
    ]


def test_a_proxy_that_has_everything_is_found_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedServer(otherwise=stand_in_answer, models=("claude", "gpt-4o-mini"), api_key="sk-right")
    with server.running() as url:
        monkeypatch.setenv("LITELLM_URL", url)
        monkeypatch.setenv("MY_KEY", "sk-right")
        found = diagnosis("--model", "claude", "--api-key-env", "MY_KEY")

    pieces = found[1][4].partition(" pieces ")[0].rpartition(" ")[2]
    assert found == (
        0,
        [
            "✔ proxy      http://127.0.0.1:… (from LITELLM_URL) is alive",
            "✔ key        accepted (from MY_KEY)",
            "✔ model      claude is one of 2 on offer: claude, gpt-4o-mini",
            "✔ abilities  can: tools, parallel tools, reasoning; cannot: images; 128,000 tokens in, 16,384 out",
            f"✔ answer     streamed in {pieces} pieces by looopy-stand-in: first piece after … s, whole after … s",
            "✔ tools      claude called calculate, read 392, and answered",
        ],
    )


def test_no_address_is_said_with_the_mend() -> None:
    code, lines = diagnosis()

    assert code == 1
    assert [line[:71] for line in lines] == [
        "✘ proxy      no address of a LiteLLM proxy: set LITELLM_URL, or pass ba"
    ]


def test_the_stand_in_of_the_environment_is_said_and_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOOPY_STAND_IN", "1")
    told = "– stand-in   LOOOPY_STAND_IN=1, so looopy's stand-in answers in place of each model that is given by its name; unset it for real ones"

    assert diagnosis() == (0, [told])
    with ScriptedServer().running() as url:
        pass
    code, lines = diagnosis("--url", url)
    assert (code, lines[0], lines[1][:12]) == (1, told, "✘ proxy     ")

    monkeypatch.setenv("LOOOPY_STAND_IN", "yes")
    code, lines = diagnosis()
    assert (code, lines[0][:37]) == (1, "✘ stand-in   LOOOPY_STAND_IN='yes': s")


def test_a_proxy_that_is_down_is_said_with_its_address_and_how_to_start_one() -> None:
    with ScriptedServer().running() as url:
        pass
    code, lines = diagnosis("--url", url)

    assert code == 1
    assert lines[0].startswith(
        "✘ proxy      LiteLLM API error: could not connect to http://127.0.0.1:…/v1/models"
    )
    assert any("Is the proxy running?" in line for line in lines[1:])


def test_a_wrong_key_is_told_apart_from_a_missing_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(api_key="sk-right").running() as url:
        monkeypatch.setenv("LITELLM_API_KEY", "sk-wrong-but-nobody-sees-it")
        wrong = diagnosis("--url", url)
        missing = diagnosis("--url", url, "--api-key-env", "NOT_SET")

    assert (wrong[0], missing[0]) == (1, 1)
    assert wrong[1][0] == "✔ proxy      http://127.0.0.1:… (from --url) is alive"
    assert wrong[1][1].startswith("✘ key        ")
    assert "sk-wrong" not in "".join(wrong[1])
    assert "The key came from LITELLM_API_KEY;" in "".join(wrong[1])
    assert missing[1][0].startswith("✘ key        --api-key-env NOT_SET: this variable is not set")


def test_a_misspelt_model_is_said_with_those_on_offer() -> None:
    with ScriptedServer(models=("gpt-4o", "claude-s")).running() as url:
        found = diagnosis("--url", url, "--model", "gpt-4p")

    assert found[0] == 1
    assert (
        found[1][-1]
        == "✘ model      'gpt-4p' is not offered; there is: gpt-4o, claude-s. Did you mean 'gpt-4o'?"
    )


def test_where_nobody_names_a_model_one_on_offer_is_tried() -> None:
    with ScriptedServer(otherwise=stand_in_answer, models=("local",)).running() as url:
        code, lines = diagnosis("--url", url)

    assert code == 0
    assert "– model      trying local; choose with --model or LOOOPY_MODEL from: local" in lines


@pytest.mark.parametrize(
    ("answers", "about", "text"),
    [
        ([fails(500)], "answer", "ModelFailed: "),
        ([thinks("Hm.")], "answer", "scripted-model answered nothing"),
        ([says("Hi."), says("392.")], "tools", "scripted-model answered without calling the tool"),
        (
            [says("Hi."), calls("calculate", sum="1"), says("Hm.")],
            "tools",
            "scripted-model called the tool wrongly: ",
        ),
        ([says("Hi."), raw(b"<html>")], "tools", ""),
    ],
)
def test_a_model_that_cannot_do_it_is_broken(answers: list, about: str, text: str) -> None:
    with ScriptedServer(*answers).running() as url:
        code, lines = diagnosis("--url", url, "--model", "scripted-model")

    assert code == 1
    assert any(line.startswith(f"✘ {about:<10} {text}") for line in lines)


def test_an_answer_in_one_long_piece_is_remarked_on() -> None:
    server = ScriptedServer(says("word " * 30), calls("calculate", expression="15 * 23 + 47"), says("392."))
    with server.running() as url:
        code, lines = diagnosis("--url", url, "--model", "scripted-model")

    assert code == 0
    assert "– answer     came in one piece, so something on the way holds it back (first piece" in "\n".join(
        lines
    )
