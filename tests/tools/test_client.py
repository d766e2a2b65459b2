"""Tools that the caller runs: the task waits for what they gave."""

from __future__ import annotations

import pytest

from looopy import AgentLoop, ClientTools, ConfigurationError, ToolDefinition
from looopy.testing import ScriptedModel, calls, says
from looopy.tools.client import definition_of

MOVE = {
    "type": "function",
    "function": {"name": "move", "parameters": {"type": "object", "properties": {"to": {"type": "string"}}}},
}


async def test_a_task_waits_for_the_tool_and_goes_on_with_what_it_gave():
    model = ScriptedModel(calls("move", to="b4"), says("Done."))
    agent = AgentLoop(llm_provider=model, tool_providers=[ClientTools([MOVE])])
    run = agent.execute("Move")

    waiting = await run
    (question,) = waiting.waiting
    assert (waiting.status, question.tool_name, question.prompt, question.input_type) == (
        "input-required",
        "move",
        'move({"to":"b4"})',
        "data",
    )

    done = await agent.resume(run.state, inputs={question.input_id: {"ok": True}})
    assert done.output == "Done."
    assert [message.text for message in done.messages if message.role == "tool"] == ['{"ok":true}']


@pytest.mark.parametrize(
    ("tool", "definition"),
    [
        (ToolDefinition(name="move"), ToolDefinition(name="move")),
        ({"type": "function", "function": {"name": "move"}}, ToolDefinition(name="move")),
        (
            MOVE["function"]
            and {"function": {**MOVE["function"], "description": "Move a piece", "strict": True}},
            ToolDefinition(
                name="move", description="Move a piece", parameters=MOVE["function"]["parameters"]
            ),
        ),
    ],
)
def test_what_a_model_sees_of_a_tool_is_a_definition_or_openais_dict(tool, definition):
    assert definition_of(tool) == definition
    assert repr(ClientTools([tool])) == "ClientTools(move)"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (
            {"name": "move", "input_schema": {}},
            """the tool 'move' is not in OpenAI's form: write {"type": "function", "function": {"name": …,""",
        ),
        ({}, "the tool with the keys [] is not in OpenAI's form"),
        ({"function": {"name": "no name"}}, "the tool 'no name' needs a name of 1 to 64 of letters, digits, `_` and `-`"),
        ({"function": {"name": "move", "description": 3}}, "the tool 'move': its description must be text"),
        ({"function": {"name": "move", "parameters": [1]}}, "its parameters a JSON schema of type object"),
        ({"function": {"name": "move", "parameters": {"a": object()}}}, "the tool 'move': its parameters have no JSON form"),
    ],
)  # fmt: skip
def test_another_form_is_refused(tool, said):
    with pytest.raises(ConfigurationError) as caught:
        ClientTools([tool])
    assert said in str(caught.value)
