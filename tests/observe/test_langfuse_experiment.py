"""An agent as the task of the real package's `run_experiment`: each item one run, below the experiment's span, with its scores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langfuse import Evaluation, get_client
from opentelemetry import trace

from looopy import AgentLoop, LimitExceeded, Limits
from looopy.observe import instrument, task_of
from looopy.testing import ScriptedModel, calls, says
from observe.langfuse_server import LangfuseServer
from observe.receiver import tree


def test_an_experiment_runs_the_agent_on_each_item_and_scores_what_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exact(*, output: str, expected_output: str, **_: Any) -> Evaluation:
        return Evaluation(name="exact", value=float(output == expected_output))

    with LangfuseServer() as server:
        account = server.account()
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", account.public_key)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", account.secret_key)
        monkeypatch.setenv("LANGFUSE_BASE_URL", server.url)
        agent = AgentLoop(llm_provider=ScriptedModel(says("3"), says("7"), name="gpt-4o-mini"))
        with instrument(langfuse="package"):
            outcome = get_client(public_key=account.public_key).run_experiment(
                name="sums",
                data=[
                    {"input": "1 + 2?", "expected_output": "3"},
                    {"input": "3 + 3?", "expected_output": "6"},
                ],
                task=task_of(agent),
                evaluators=[exact],
                max_concurrency=1,
            )
        server.wait(scores=2, spans=14)
    assert [each.output for each in outcome.item_results] == ["3", "7"]
    assert [(body["name"], body["value"]) for body in server.scores] == [("exact", 1.0), ("exact", 0.0)]
    assert tree(server.spans) == TREE
    ours = [span for span in server.spans if span.scope == "looopy"]
    assert {span.attributes["langfuse.environment"] for span in ours} == {"sdk-experiment"}


TREE = """\
experiment-item-run [INTERNAL]
  experiment-item-task [INTERNAL]
    invoke_agent agent [INTERNAL]
      agent.iteration [INTERNAL]
        chat gpt-4o-mini [CLIENT]
  experiment-item-evaluation [INTERNAL]
    exact [INTERNAL]
experiment-item-run [INTERNAL]
  experiment-item-task [INTERNAL]
    invoke_agent agent [INTERNAL]
      agent.iteration [INTERNAL]
        chat gpt-4o-mini [CLIENT]
  experiment-item-evaluation [INTERNAL]
    exact [INTERNAL]"""


@pytest.mark.parametrize(
    ("item", "options", "asked"),
    [
        ({"input": "Hi"}, {}, "Hi"),
        (SimpleNamespace(input={"city": "Oslo"}), {}, '{"city":"Oslo"}'),
        (
            {"input": {"city": "Oslo"}},
            {"prompt": lambda given: f"Weather in {given['city']}?"},
            "Weather in Oslo?",
        ),
    ],
)
async def test_an_items_input_becomes_the_prompt(item: Any, options: Any, asked: str) -> None:
    model = ScriptedModel(says("Hello."))
    task = task_of(AgentLoop(llm_provider=model), user_id="ada", **options)

    assert await task(item=item) == "Hello."
    assert [message.text for message in model.requests[0].messages] == [asked]
    assert model.requests[0].user_id == "ada"


async def test_a_run_that_fails_is_a_failed_item() -> None:
    agent = AgentLoop(llm_provider=ScriptedModel(calls("nothing")), limits=Limits(tool_failures=1))
    with pytest.raises(LimitExceeded):
        await task_of(agent)(item={"input": "Hi"})
    assert not trace.get_current_span().is_recording()
