"""`MODULE:AGENT`: what it finds, and what it says when it finds nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from looopy.cli.app import app
from looopy.cli.load import load_agent

AGENTS = """
from types import SimpleNamespace

from looopy import AgentLoop
from looopy.testing import ScriptedModel, says

agent = AgentLoop(llm_provider=ScriptedModel(says("Hi.")), agent_id="plain")
agents = SimpleNamespace(inner=AgentLoop(llm_provider=ScriptedModel(says("Hi.")), agent_id="inner"))


def made(name="made"):
    return AgentLoop(llm_provider=ScriptedModel(says("Hi.")), agent_id=name)


def needy(name):
    return agent


async def later():
    return agent


def wrong():
    return 7


def raising():
    return 1 / 0


number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "agents_here.py").write_text(AGENTS)
    (tmp_path / "needs_more.py").write_text("import not_there_at_all\n")
    (tmp_path / "misspelt.py").write_text("x = 1\nagent = = 2\n")
    (tmp_path / "leaves.py").write_text("import sys\n\nsys.exit('not today')\n")
    (tmp_path / "unset.py").write_text(
        'from looopy import AgentLoop\n\nagent = AgentLoop(llm_provider="gpt-4o-mini")\n'
    )
    (tmp_path / "json.py").write_text("agent = 1\n")
    package = tmp_path / "inside" / "deeper"
    package.mkdir(parents=True)
    (tmp_path / "inside" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "them.py").write_text("from ..deeper import __name__ as here\n" + AGENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITELLM_URL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    known = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "agent_id"),
    [
        ("agents_here:agent", "plain"),
        ("agents_here:agents.inner", "inner"),
        ("agents_here:made", "made"),
        ("agents_here.py:agent", "plain"),
        ("./inside/deeper/them.py:made", "made"),
        ("inside.deeper.them:agent", "plain"),
    ],
)
def test_an_agent_is_found_by_module_or_file_and_attribute_or_function(
    folder: Path, target: str, agent_id: str
) -> None:
    assert load_agent(target).agent_id == agent_id


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("agents_here", "'agents_here' names no agent: write MODULE:AGENT, agents_here:agent"),
        (":agent", "':agent' names no module: write MODULE:AGENT, for example `looopy run app:agent"),
        (
            "agents_hare:agent",
            (
                "there is no module 'agents_hare', neither installed nor in {folder}, where there is agents_here, inside, "
                "json, leaves, misspelt, needs_more, unset. Did you mean 'agents_here'?"
            ),
        ),
        (
            "inside.them:agent",
            "there is no module 'inside.them', neither installed nor in {folder}/inside, where there is deeper",
        ),
        ("agent_here.py:agent", "there is no file 'agent_here.py'; in {folder} there is agents_here.py, "),
        ("nowhere/a.py:agent", "there is no folder '{folder}/nowhere' for 'nowhere/a.py'"),
        ("inside/deeper/them:agent", "'inside/deeper/them' is no module: for a file write its path with .py"),
        ("json.py:agent", "json.py has the name of another module, "),
        ("agents_here:agnet", "'agents_here' has no 'agnet'; its agents are agent. Did you mean 'agent'?"),
        (
            "agents_here:number",
            "'agents_here:number' is a value of type int, not an AgentLoop: name one, or a function",
        ),
        ("agents_here:AgentLoop", "'agents_here:AgentLoop' is the class AgentLoop, not an AgentLoop"),
        ("agents_here:wrong", "'agents_here:wrong' returned a value of type int, not an AgentLoop"),
        (
            "agents_here:needy",
            (
                "'agents_here:needy' is called for an AgentLoop, without arguments, but missing a required argument: "
                "'name': give each a default"
            ),
        ),
        ("agents_here:later", "'agents_here:later' is a coroutine function: make it a plain `def`"),
        (
            "agents_here:raising",
            "'agents_here:raising' failed (agents_here.py:28): ZeroDivisionError: division by zero",
        ),
        (
            "needs_more:agent",
            (
                "'needs_more' cannot be imported (needs_more.py:1): ModuleNotFoundError: No module named "
                "'not_there_at_all'; is 'not_there_at_all' installed in "
            ),
        ),
        ("misspelt:agent", "'misspelt' cannot be imported (misspelt.py:2): SyntaxError: "),
        ("leaves:agent", "'leaves' cannot be imported (leaves.py:3): SystemExit: not today"),
        (
            "unset:agent",
            "'unset' cannot be imported (unset.py:3): no address of a LiteLLM proxy: set LITELLM_URL",
        ),
    ],
)
def test_an_agent_that_is_not_found_is_wrong_usage_and_the_message_says_what_there_is(
    folder: Path, target: str, text: str
) -> None:
    shown = CliRunner().invoke(app, ["run", target, "Hi"])

    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"ConfigurationError: {text.format(folder=folder)}")
    assert "Traceback" not in shown.stderr


def test_run_without_a_prompt_at_a_keyboard_is_wrong_usage(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["run", "agents_here:agent"], input="  \n")

    assert shown.exit_code == 2
    assert shown.stderr == "ConfigurationError: the prompt is empty: say what the agent shall do\n"


@pytest.mark.parametrize("arguments", [["run"], ["rum"], ["run", "a:b", "--jsn"], ["doctor", "--url"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["run", "chat", "demo", "doctor"])
def test_the_help_of_every_command_ends_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert shown.stdout.rstrip().splitlines()[-1].strip().startswith(f"Example: looopy {command}")


def test_alone_the_command_shows_its_help_and_knows_its_version() -> None:
    assert "Try it without a key: looopy demo" in CliRunner().invoke(app, []).stdout
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("looopy 0.")
