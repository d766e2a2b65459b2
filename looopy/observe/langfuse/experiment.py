"""An agent as the task of a Langfuse experiment: each item of a dataset is one run, under the span that the experiment opened for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from looopy.agent import AgentLoop
from looopy.arguments import Prompt
from looopy.messages import JSON, jsonable, render


def task_of(
    agent: AgentLoop, *, prompt: Callable[[JSON], Prompt] | None = None, **options: Any
) -> Callable[..., Awaitable[str]]:
    """What `run_experiment` asks for as its task: `dataset.run_experiment(name="v2", task=task_of(agent), evaluators=[…])`.

    The output of an item is the answer's text. A run that fails is a failed item, with its error.

    Args:
        agent: who answers.
        prompt: makes the prompt of an item's input; left out, text is the prompt, and anything else is asked as JSON.
        options: further arguments of `AgentLoop.execute`.
    """

    async def task(*, item: Any, **_: Any) -> str:
        given = cast("JSON", item["input"] if isinstance(item, Mapping) else item.input)
        said = prompt(given) if prompt else render(jsonable(given))
        return (await agent.execute(said, **options)).output

    return task
