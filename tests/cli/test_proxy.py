"""`looopy proxy`: the proxy as long as the command runs, here with a scripted LiteLLM."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from looopy import AgentLoop, LiteLLMProvider
from looopy.testing.standin import WHO

from .command import done, ended, read_until, start

ROOT = Path(__file__).parents[2]
INSTALLED = {"PYTHONPATH": os.pathsep.join((str(ROOT / "tests/providers/scripted_proxy"), str(ROOT)))}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_says_how_to_reach_it_and_runs_until_a_signal(tmp_path: Path, number: int, code: int) -> None:
    with start(
        "proxy", "--model", "small=openai/gpt-4o-mini", "--port", "0", folder=tmp_path, **INSTALLED
    ) as process:
        shown = read_until(process.stdout, "\n") + read_until(process.stdout, "\n")
        told = read_until(process.stderr, "; Ctrl-C ends it\n")
        exports = dict(line.removeprefix("export ").split("=") for line in shown.splitlines())
        provider = LiteLLMProvider(exports["LITELLM_URL"], "small", exports["LITELLM_API_KEY"])
        answer = AgentLoop(llm_provider=provider).execute("Hi").result(timeout=5).output
        process.send_signal(number)
        returned = ended(process)

    log = Path(told.partition("its log is ")[2].removesuffix("; Ctrl-C ends it\n"))
    assert told == f"starting the LiteLLM proxy for small …\nit is up; its log is {log}; Ctrl-C ends it\n"
    assert (list(exports), answer, returned) == (["LITELLM_URL", "LITELLM_API_KEY"], WHO, (code, "", ""))
    assert not log.exists()


def test_without_a_key_and_a_model_it_is_wrong_usage(tmp_path: Path) -> None:
    code, out, err = done("proxy", folder=tmp_path, **INSTALLED)

    assert (code, out) == (2, "")
    assert err.startswith(
        "ConfigurationError: no model is named and no API key is there: set one of OPENAI_API_KEY, "
    )


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code, out, err = done("proxy", "--model", "m", "--port", "0", folder=tmp_path, PYTHONPATH=str(ROOT))

    assert (code, out) == (2, "")
    assert err.endswith("needs the LiteLLM proxy: pip install 'looopy[proxy]'\n")


def test_one_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    code, out, err = done(
        "proxy",
        "--model",
        "m",
        "--port",
        "0",
        folder=tmp_path,
        SCRIPTED="dies",
        LOOOPY_PROXY_SECRET_1="-",
        **INSTALLED,
    )

    assert (code, out) == (1, "")
    assert "no such thing; the key is ***" in err
