"""Answers of a type: how a model is asked, what is made of what it says, and what happens when it does not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from agents import add, answers, delete, events_of, kinds
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from looopy import (
    AgentLoop,
    InMemoryStateStore,
    Limits,
    LiteLLMProvider,
    Message,
    Output,
    OutputInvalid,
    dumps,
    loads,
)
from looopy.errors import ConfigurationError, LimitExceeded, ModelFailed, StreamBroken, TaskCanceled
from looopy.events import Failure, OutputRejected, StatusUpdate, ToolComplete, ToolStart
from looopy.messages import DataPart
from looopy.ports import LLMRequest, ToolDefinition
from looopy.providers.transport import HTTP
from looopy.state import LoopState
from looopy.testing import ScriptedModel, ScriptedServer, calls, cuts, fails, raw, run_virtual, says


class Invoice(BaseModel):
    """What is to be paid."""

    number: str
    total: float = Field(description="in euros", gt=0)
    due: date


class Refund(BaseModel):
    amount: float


@dataclass
class Point:
    x: int
    y: int


class Line(TypedDict):
    name: str
    count: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


GOOD = '{"number": "A-1", "total": 12.5, "due": "2026-01-02"}'
INVOICE = Invoice(number="A-1", total=12.5, due=date(2026, 1, 2))


def ask(
    *script: Any, output_type: Any = Invoice, name: str = "gpt-4o", tools: Any = (), **options: Any
) -> tuple[Any, ScriptedModel]:
    """What a run came to, and its model; natively where the name says nothing else."""
    model = Named(*script, model=name)
    return AgentLoop(llm_provider=model, tools=tools, **options).execute(
        "go", output_type=output_type
    ).result(5), model


class Named(ScriptedModel):
    """A scripted model that says what it is called, as providers do."""

    def __init__(self, *script: Any, model: str) -> None:
        super().__init__(*script)
        self.model = model


# ---------------------------------------------------------------------------------------------------------- how it is asked


def test_a_model_known_for_it_is_held_to_a_strict_schema() -> None:
    result, model = ask(says(GOOD))

    assert result.output == INVOICE
    assert result.status == "completed"
    (request,) = model.requests
    assert request.params == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "Invoice",
                "strict": True,
                "schema": {
                    "type": "object",
                    "description": "What is to be paid.",
                    "properties": {
                        "number": {"type": "string"},
                        "total": {"type": "number", "description": "in euros; exclusiveMinimum: 0"},
                        "due": {"type": "string", "format": "date"},
                    },
                    "required": ["number", "total", "due"],
                    "additionalProperties": False,
                },
            },
        }
    }
    assert (request.tools, request.tool_choice) == ((), "auto")


def test_a_model_nothing_is_known_of_is_made_to_call_a_tool_with_its_answer() -> None:
    result, model = ask(calls("final_answer", GOOD), name="")

    assert result.output == INVOICE
    (request,) = model.requests
    assert request.params == {}
    assert request.tool_choice == "final_answer"
    assert [tool.name for tool in request.tools] == ["final_answer"]
    assert request.tools[0].parameters["required"] == ["number", "total", "due"]


def test_the_schema_stands_in_the_prompt_where_that_is_asked_for() -> None:
    output = Output(Invoice, mode="prompt")
    result, model = ask(
        says(f"Here it is:\n```json\n{GOOD}\n```"), output_type=output, system_prompt="Be kind."
    )
    _, plain = ask(says(GOOD), output_type=output)

    assert result.output == INVOICE
    assert result.repaired is False
    system, prompt = model.requests[0].messages
    assert system.text.startswith("Be kind.\n\nWhen you know the answer, write it as one JSON object")
    assert '"exclusiveMinimum":0' in system.text
    assert prompt == Message.user("go")
    assert plain.requests[0].messages[0].text.startswith("When you know")


def test_a_schema_that_cannot_be_said_strictly_goes_by_tool_or_as_it_is() -> None:
    """A type that contains itself has no end, and providers' grammars need one."""
    tree = '{"name": "a", "parts": [{"name": "b"}]}'

    result, model = ask(calls("final_answer", tree), output_type=Tree)
    _, native = ask(says(tree), output_type=Output(Tree, mode="native"))

    assert result.output == Tree(name="a", parts=[Tree(name="b")])
    assert model.requests[0].tools[0].parameters["type"] == "object"
    sent = native.requests[0].params["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]["type"]) == (False, "object")


def test_a_tool_of_the_same_name_is_a_mistake_that_is_said() -> None:
    def final_answer() -> str:
        return ""

    with pytest.raises(ConfigurationError, match=r"a tool 'final_answer' already.*Output\(…, name=…\)"):
        ask(tools=[final_answer])

    result, _ = ask(
        calls("answer", GOOD),
        output_type=Output(Invoice, mode="tool", name="answer"),
        tools=[final_answer],
    )
    assert result.output == INVOICE


# ------------------------------------------------------------------------------------------------------- what it may be


@pytest.mark.parametrize(
    ("output_type", "said", "value"),
    [
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Line, '{"name": "a", "count": 2}', {"name": "a", "count": 2}),
        (Invoice | Refund, f'{{"result": {GOOD}}}', INVOICE),
        (Invoice | Refund, '{"amount": 3}', Refund(amount=3)),
        (Invoice | None, '{"result": null}', None),
        (list[Point], '{"result": [{"x": 1, "y": 2}]}', [Point(1, 2)]),
        (list[Point], '[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (dict[str, int], '{"result": 3}', {"result": 3}),
        (int, '{"result": 0}', 0),
        (int, "42", 42),
        (bool, "false", False),
        (Colour, "red", Colour.RED),
        (Literal["yes", "no"], " yes\n", "yes"),
        (tuple[int, str], '{"result": [1, "a"]}', (1, "a")),
        (date, '"2026-01-02"', date(2026, 1, 2)),
        (Invoice | str, "I cannot tell.", "I cannot tell."),
        (Annotated[list[int], Field(max_length=2)], "[1, 2]", [1, 2]),
    ],
    ids=str,
)
def test_whatever_has_a_schema_can_be_an_answer(output_type: Any, said: str, value: object) -> None:
    output = Output(output_type, mode="prompt", retries=0)

    assert ask(says(said), output_type=output)[0].output == value


@pytest.mark.parametrize(("output_type", "value"), [(int, 0), (list[int], []), (Invoice | None, None)])
def test_an_answer_that_is_no_object_is_wrapped_for_a_tool(output_type: Any, value: object) -> None:
    result, _ = ask(calls("final_answer", result=value), output_type=output_type, name="")

    assert result.output == value


def test_text_stays_text() -> None:
    result, model = ask(says("42"), output_type=str)

    assert result.output == "42"
    assert (model.requests[0].params, model.requests[0].tools) == ({}, ())
    assert Output.of(str) is None


def test_a_type_is_described_once() -> None:
    unhashable = Annotated[int, Field(json_schema_extra={"x": 1}), []]

    assert Output.of(Invoice) is Output.of(Invoice)
    assert (
        repr(Output.of(unhashable))
        == "Output(Annotated[int, FieldInfo(annotation=NoneType, required=True, json_schema_extra={'x': 1}), []], mode='auto', retries=2)"
    )
    assert (
        repr(Output(Invoice | list[int], mode="tool", retries=0))
        == "Output(Invoice | list[int], mode='tool', retries=0)"
    )


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (lambda: Output(Callable[[], int]), "output_type", r"Callable.*no JSON schema"),
        (lambda: Output(object()), "output_type", r"no JSON schema.*defined at the module's level"),
        (
            lambda: Output("int"),
            "output_type",
            r"output_type='int' is a text: pass the type itself, without quotes",
        ),
        (lambda: Output(int, mode="json"), "mode", r"mode='json'.*'native'"),
        (lambda: Output(int, retries=-1), "retries", r"retries=-1"),
        (lambda: Output(int, retries=True), "retries", r"retries=True"),
        (lambda: Output(int, name="a b"), "name", r"name='a b'"),
    ],
)
def test_what_cannot_work_is_said_at_construction(
    make: Callable[[], object], argument: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make()

    assert caught.value.argument == argument


def test_execute_says_at_once_that_a_type_has_no_schema() -> None:
    with pytest.raises(ConfigurationError, match="output_type="):
        AgentLoop(llm_provider=ScriptedModel()).execute("go", output_type=object())


# ------------------------------------------------------------------------------------------------------ when it does not fit


async def test_a_model_is_told_what_is_wrong_with_its_answer_and_answers_again() -> None:
    wrong = '{"number": "A-1", "total": -1}'
    model = Named(says(wrong), says(GOOD), model="gpt-4o")
    run = AgentLoop(llm_provider=model).execute("go", output_type=Invoice)

    events = await events_of(run)
    result = await run

    assert result.output == INVOICE
    told = model.requests[1].messages[-1]
    assert told.role == "user"
    assert told.text.startswith(
        "2 problems with the answer:\n"
        "- total: Input should be greater than 0, got -1\n"
        "- due: missing, and it is required\n"
        "When you know the answer, write it as one JSON object"
    )
    assert [event for event in events if isinstance(event, OutputRejected)] == [
        OutputRejected(
            problem=told.text,
            attempt=1,
            task_id=run.task_id,
            context_id=run.context_id,
            seq=6,
            timestamp=events[5].timestamp,
        )
    ]
    assert [message.role for message in result.messages] == ["user", "assistant", "user", "assistant"]


async def test_a_call_that_gives_a_wrong_answer_is_answered_like_any_other() -> None:
    """Invariant 3: every call has its tool message, the one that ends the task too."""
    model = ScriptedModel(
        calls("final_answer", number="A-1"), calls("final_answer", "{oops"), calls("final_answer", GOOD)
    )
    run = AgentLoop(llm_provider=model).execute("go", output_type=Invoice)

    events = await events_of(run)
    result = await run

    assert result.output == INVOICE
    assert kinds(events)[2:] == [
        *("llm-call", "tool-call-delta", "llm-response", "output-rejected", "tool-start", "tool-complete")
        * 2,
        *("llm-call", "tool-call-delta", "llm-response", "tool-start", "tool-complete", "completed"),
    ]
    assert [call_id for call_id, _ in answers(result.messages)] == ["call_1", "call_2", "call_3"]
    first, second, third = (text for _, text in answers(result.messages))
    assert first.startswith("Error: 2 problems with the answer:\n- total: missing")
    assert first.endswith("\nCall 'final_answer' again, with all of the answer.")
    assert second.startswith("Error: the arguments are not valid JSON")
    assert third == "taken"
    status = events[-1]
    assert isinstance(status, StatusUpdate)
    assert status.status.message == Message("assistant", (DataPart(json.loads(GOOD)),))


def test_text_where_a_call_was_asked_for_is_read_too_or_asked_for_again() -> None:
    result, model = ask(says(GOOD), name="")
    again, asked = ask(says("Gladly."), calls("final_answer", GOOD), name="")

    assert (result.output, again.output) == (INVOICE, INVOICE)
    assert len(model.requests) == 1
    assert asked.requests[1].messages[-1].text == (
        "the answer cannot be read: there is no JSON in the text\nAnswer by calling the tool 'final_answer'."
    )


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_last_answer_that_does_not_fit_ends_the_task_with_what_is_wrong(retries: int) -> None:
    with pytest.raises(OutputInvalid) as caught:
        ask(*[says("{}", f'{{"number": {n}}}') for n in range(retries)], says("I'm sorry, I cannot."),
            output_type=Output(Invoice, mode="prompt", retries=retries))  # fmt: skip

    error = caught.value
    count = f", the last of {retries + 1}," if retries else ""
    assert str(error) == (
        f"the answer{count} does not fit Invoice: the answer cannot be read: there is no JSON in the text\nit was: I'm sorry, I cannot."
    )
    assert (error.text, error.answers) == ("I'm sorry, I cannot.", retries + 1)
    assert error.problem == "the answer cannot be read: there is no JSON in the text"
    assert (error.result.output, error.result.status) == ("I'm sorry, I cannot.", "failed")
    assert error.result.error == Failure(type="OutputInvalid", message=str(error))
    assert not error.retryable


def test_a_wrong_call_that_ends_the_task_leaves_a_whole_history() -> None:
    with pytest.raises(OutputInvalid, match=r'it was: \{"number":"A-1"\}') as caught:
        ask(calls("final_answer", number="A-1"), output_type=Output(Invoice, mode="tool", retries=0))

    assert [call_id for call_id, _ in answers(caught.value.result.messages)] == ["call_1"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            says('{"number": "A', finish_reason="length"),
            r"^the model reached its token limit \(raise max_tokens",
        ),
        (says("", finish_reason="length"), r"token limit.*it was: nothing"),
        (calls("final_answer", '{"number": "A') + says(finish_reason="length"), r"token limit"),
        (says("Well", finish_reason="content_filter"), r"^the provider's content filter stopped the model"),
    ],
)
def test_what_would_be_no_better_the_next_time_is_not_asked_for_again(script: Any, message: str) -> None:
    with pytest.raises(OutputInvalid, match=f"(?s){message}"):
        ask(script)


def test_an_answer_that_is_whole_before_it_is_cut_is_an_answer() -> None:
    assert ask(says(GOOD, " I hope", finish_reason="length"))[0].output == INVOICE


def test_a_validators_own_words_reach_the_model_and_its_bugs_end_the_task() -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def check(cls, number: int) -> int:
            if number % 2:
                raise ValueError("only even numbers, please")
            return number // (number - 4)

    result, model = ask(says('{"number": 3}'), says('{"number": 6}'), output_type=Even)
    with pytest.raises(
        OutputInvalid, match=r"a validator is broken: .*a validator raised ZeroDivisionError"
    ) as caught:
        ask(says('{"number": 4}'), output_type=Even)

    assert result.output == Even.model_construct(number=3)
    assert "- number: Value error, only even numbers, please, got 3" in model.requests[1].messages[-1].text
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_model_that_fails_is_no_wrong_answer() -> None:
    with pytest.raises(ModelFailed):
        ask(fails(500))
    with pytest.raises(StreamBroken):
        ask(says('{"number": ') + cuts())


def served(*script: Any, **options: Any) -> Any:
    """What a run came to whose model is behind a scripted proxy."""
    server = ScriptedServer(*script)
    provider = LiteLLMProvider("http://proxy", "gpt-4o", None, transport=HTTP(server.transport()))
    return AgentLoop(llm_provider=provider).execute("go", output_type=Invoice, **options).result(5)


def test_broken_json_is_asked_for_again_over_http_and_the_last_one_is_said() -> None:
    broken = '{"number": "A-1", "total": '

    with pytest.raises(OutputInvalid, match=r"the last of 3, does not fit Invoice") as caught:
        served(says(broken), says(broken), says(broken))

    assert caught.value.text == broken
    assert served(says(broken), says(GOOD)).output == INVOICE


def test_a_refusal_is_what_the_answer_was() -> None:
    """OpenAI sends it in a field of its own beside an empty content."""
    refusal = b'data: {"choices": [{"index": 0, "delta": {"content": null, "refusal": "I must not."}}]}\n\n'
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'

    with pytest.raises(OutputInvalid, match="it was: I must not"):
        served(*[raw(refusal + end) for _ in range(3)])


def test_a_content_filter_and_a_cut_are_said_over_http_too() -> None:
    with pytest.raises(OutputInvalid, match=r"^the provider's content filter"):
        served(says("Well", finish_reason="content_filter"))
    with pytest.raises(OutputInvalid, match=r"^the model reached its token limit"):
        served(says('{"number": "A', finish_reason="length"))


def test_asking_again_takes_its_time_and_the_runs_clock_goes_on() -> None:
    async def main() -> None:
        limits = Limits(run_seconds=5.5)
        wrong = says('{"number": ', "3}", every=1)
        run = AgentLoop(llm_provider=Named(wrong, wrong, wrong, model="gpt-4o"), limits=limits).execute(
            "go", output_type=Invoice
        )

        with pytest.raises(LimitExceeded, match=r"run_seconds=5\.5") as caught:
            await run

        assert asyncio.get_running_loop().time() == pytest.approx(5.5)
        assert caught.value.result.output == '{"number": '
        assert caught.value.result.iterations == 3

    run_virtual(main())


async def test_a_validator_that_says_what_nothing_can_encode_is_broken() -> None:
    class Odd(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def check(cls, number: int) -> int:
            raise ValueError("half an emoji: \ud83d")

    agent = AgentLoop(llm_provider=Named(says('{"number": 1}'), model="gpt-4o"))
    events = await events_of(agent.execute("go", output_type=Odd))

    assert [loads(dumps(event)) for event in events] == events
    assert isinstance(events[-1], StatusUpdate)
    assert events[-1].error is not None
    assert "a validator raised UnicodeEncodeError" in events[-1].error.message


# ------------------------------------------------------------------------------------------------------- together with tools


def test_tools_are_called_first_and_the_answer_is_offered_beside_them() -> None:
    result, model = ask(
        calls("add", a=1, b=2), calls("final_answer", x=1, y=3), output_type=Point, tools=[add], name=""
    )

    assert result.output == Point(1, 3)
    assert [[tool.name for tool in request.tools] for request in model.requests] == [
        ["add", "final_answer"]
    ] * 2
    assert [request.tool_choice for request in model.requests] == ["auto", "auto"]
    assert answers(result.messages) == [("call_1", "3"), ("call_2", "taken")]


def test_tools_and_a_native_schema_go_together() -> None:
    result, model = ask(calls("add", a=1, b=2), says('{"x": 1, "y": 3}'), output_type=Point, tools=[add])

    assert result.output == Point(1, 3)
    assert [("response_format" in request.params, len(request.tools)) for request in model.requests] == [
        (True, 1)
    ] * 2


async def test_calls_beside_the_answer_are_run_before_it_is_looked_at() -> None:
    model = ScriptedModel(
        calls("final_answer", x=1, y=3) + calls("add", a=1, b=2) + calls("final_answer", x=0, y=0)
    )
    run = AgentLoop(llm_provider=model, tools=[add]).execute("go", output_type=Point)

    events = await events_of(run)

    assert (await run).output == Point(1, 3)
    assert [event.tool_name for event in events if isinstance(event, ToolStart)] == [
        "add",
        "final_answer",
        "final_answer",
    ]
    assert answers((await run).messages) == [
        ("call_1", "taken"),
        ("call_2", "3"),
        ("call_3", "not needed: another was taken"),
    ]


def test_of_several_wrong_answers_each_is_told_what_is_wrong_with_it() -> None:
    result, _ = ask(
        calls("final_answer", x=1) + calls("final_answer", y=1),
        calls("final_answer", x=1, y=1),
        output_type=Point,
        name="",
    )

    first, second, _ = (text for _, text in answers(result.messages))
    assert ("- y: missing" in first, "- x: missing" in second) == (True, True)


async def test_an_answer_waits_for_the_question_that_was_asked_beside_it() -> None:
    script = calls("delete", path="a.txt") + calls("final_answer", x=1, y=3)
    agent = AgentLoop(
        llm_provider=ScriptedModel(script), tools=[delete], task_state_store=InMemoryStateStore()
    )

    waiting = await agent.execute("go", task_id="t", output_type=Point)
    result = await agent.resume("t", inputs={"call_1": "yes"}, output_type=Point)

    assert (waiting.status, waiting.output) == ("input-required", "")
    assert result.output == Point(1, 3)
    assert answers(result.messages) == [("call_1", "deleted a.txt"), ("call_2", "taken")]


# --------------------------------------------------------------------------------------------------- limits, resume, sessions


def test_an_answer_that_is_there_is_not_thrown_away_for_having_been_dear() -> None:
    limits = Limits(cost=0.1)

    result, _ = ask(calls("final_answer", GOOD) + says(cost=1.0), name="", limits=limits)
    with pytest.raises(LimitExceeded, match=r"cost=0\.1"):
        ask(calls("final_answer", x=1) + says(cost=1.0), name="", limits=limits)

    assert result.output == INVOICE


async def test_rejected_answers_are_counted_over_a_resume() -> None:
    script = (says("{}"), calls("delete", path="a.txt"), says("no"), says("no"))
    model = Named(*script, model="gpt-4o")
    agent = AgentLoop(llm_provider=model, tools=[delete], task_state_store=InMemoryStateStore())

    waiting = agent.execute("go", output_type=Invoice)
    await waiting
    assert waiting.state is not None
    state = LoopState.loads(waiting.state.dumps())
    with pytest.raises(OutputInvalid, match="the last of 3,"):
        await agent.resume(state, inputs={"call_1": "yes"}, output_type=Invoice)

    assert state.rejected == 1
    model.assert_complete()


async def test_a_task_can_go_on_as_text() -> None:
    agent = AgentLoop(
        llm_provider=ScriptedModel(calls("delete", path="a.txt"), says("Done.")), tools=[delete]
    )
    waiting = agent.execute("go", output_type=Invoice)
    await waiting

    assert (await agent.resume(waiting.state, inputs={"call_1": "yes"})).output == "Done."


async def test_each_turn_of_a_session_has_its_own_type() -> None:
    model = ScriptedModel(
        calls("final_answer", GOOD),
        says("You are welcome."),
        calls("delete", path="a.txt"),
        calls("final_answer", x=1, y=2),
    )
    session = AgentLoop(llm_provider=model, tools=[delete]).session()

    first = await session.send("go", output_type=Invoice)
    second = await session.send("thanks")
    await session.send("and?", output_type=Point)
    third = await session.resume(inputs={"call_2": "no"}, output_type=Point)

    assert (first.output, second.output) == (INVOICE, "You are welcome.")
    assert third.output == Point(1, 2)
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "tool", "user"]


def test_a_cancelled_run_keeps_the_text() -> None:
    run = AgentLoop(llm_provider=ScriptedModel(says(GOOD))).execute("go", output_type=Invoice)
    run.cancel()

    with pytest.raises(TaskCanceled) as caught:
        run.result(5)
    assert caught.value.result.output == ""


# -------------------------------------------------------------------------------------------------------------- a single call


async def test_a_single_call_is_asked_and_read_with_the_same_output() -> None:
    output = Output(Invoice)
    request = LLMRequest(
        messages=(Message.user("go"),), tools=(ToolDefinition(name="other"),), tool_choice="required"
    )
    model = ScriptedModel(says(GOOD), calls("final_answer", GOOD), says("no"))

    native = await model.call(output.on(request, "native"))
    by_tool = await model.call(output.on(request, "tool"))
    wrong = await model.call(output.on(request, "prompt"))

    assert output.read(native) == output.read(by_tool) == INVOICE
    assert model.requests[1].tool_choice == "required"
    with pytest.raises(OutputInvalid, match="it was: no"):
        output.read(wrong)


def test_the_requests_own_response_format_wins() -> None:
    request = LLMRequest(messages=(), params={"response_format": {"type": "json_object"}})

    assert Output(Invoice).on(request, "native").params == request.params


async def test_the_answer_is_kept_with_the_task() -> None:
    store = InMemoryStateStore()
    model = ScriptedModel(calls("final_answer", x=1), calls("final_answer", x=1, y=2))
    run = AgentLoop(llm_provider=model, task_state_store=store).execute("go", output_type=Point)

    events = await events_of(run)

    assert (await run).output == Point(1, 2)
    assert await store.load(run.task_id) == run.state
    assert kinds(events)[-4:] == ["tool-start", "tool-complete", "checkpoint", "completed"]
    assert isinstance(events[-3], ToolComplete)
