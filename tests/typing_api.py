"""What a type checker knows of the public API; checked by basedpyright and never run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypedDict, assert_type

from pydantic import BaseModel

from looopy import AgentLoop, Embeddings, LLMResponse, Output, Run, RunResult, llm


class Invoice(BaseModel):
    total: float


@dataclass
class Refund:
    amount: float


class Line(TypedDict):
    name: str


class Colour(Enum):
    RED = "red"


agent = AgentLoop(llm_provider="stand-in")


async def runs_are_typed_by_what_they_answer() -> None:
    assert_type(agent.execute("Hi"), Run[str])
    assert_type(await agent.execute("Hi"), RunResult[str])
    assert_type((await agent.execute("Hi")).output, str)
    assert_type(agent.execute("Hi").result().output, str)
    assert_type(agent.execute("Hi").start(), Run[str])

    assert_type((await agent.execute("Hi", output_type=Invoice)).output, Invoice)
    assert_type(agent.execute("Hi", output_type=Invoice).result().output, Invoice)
    assert_type(agent.execute("Hi", output_type=Invoice).start(), Run[Invoice])
    assert_type((await agent.execute("Hi", output_type=Refund)).output, Refund)
    assert_type((await agent.execute("Hi", output_type=Line)).output, Line)
    assert_type((await agent.execute("Hi", output_type=Colour)).output, Colour)
    assert_type((await agent.execute("Hi", output_type=int)).output, int)
    assert_type((await agent.execute("Hi", output_type=list[Invoice])).output, list[Invoice])
    assert_type((await agent.execute("Hi", output_type=Invoice | Refund)).output, Invoice | Refund)
    assert_type((await agent.execute("Hi", output_type=Invoice | None)).output, Invoice | None)
    assert_type((await agent.execute("Hi", output_type=Literal["a", "b"])).output, Literal["a", "b"])
    assert_type((await agent.execute("Hi", output_type=Output(Invoice, retries=0))).output, Invoice)


async def so_are_resumed_runs_and_the_turns_of_a_session() -> None:
    assert_type(agent.resume("task"), Run[str])
    assert_type(agent.resume("task", output_type=Invoice), Run[Invoice])
    session = agent.session()
    assert_type(session.send("Hi"), Run[str])
    assert_type(session.send("Hi", user_id="me"), Run[str])
    assert_type(session.send("Hi", output_type=Invoice | Refund), Run[Invoice | Refund])
    assert_type(session.resume(output_type=Output(int)), Run[int])


def an_output_reads_its_type(response: LLMResponse) -> None:
    assert_type(Output(Invoice).read(response), Invoice)
    assert_type(Output(list[int] | None).read(response), list[int] | None)


def a_run_without_a_type_argument_is_one_of_text(run: Run, result: RunResult) -> None:
    assert_type(run, Run[str])
    assert_type(result.output, str)


def a_run_of_a_type_is_a_run_of_what_it_is(run: Run[Invoice]) -> Run[BaseModel]:
    return run


async def single_calls_are_typed_in_the_same_way() -> None:
    assert_type(llm.complete("Hi"), Run[str])
    assert_type(llm.complete("Hi", model="gpt-4o-mini", tools=[{"type": "function"}]), Run[str])
    assert_type((await llm.complete("Hi", output_type=Invoice)).output, Invoice)
    assert_type(llm.complete("Hi", output_type=list[Invoice] | None).result().output, list[Invoice] | None)
    assert_type(llm.complete([{"role": "user", "content": "Hi"}], output_type=Output(int)), Run[int])
    assert_type(await llm.stream("Hi"), RunResult[str])
    assert_type([piece async for piece in llm.stream("Hi")], list[str])
    assert_type([piece async for piece in llm.stream("Hi").events()], list[llm.Piece])
    assert_type(await llm.embed(["Hi"]), Embeddings)
    assert_type(llm.embed(["Hi"]).result(), Embeddings)


def and_without_an_event_loop() -> None:
    assert_type(list(llm.stream("Hi")), list[str])
    llm.complete("Hi", temprature=1)  # pyright: ignore[reportCallIssue]


@llm.llm_function
def bare(text: str) -> Invoice:
    """Read the invoice."""
    raise NotImplementedError


@llm.llm_function(model="gpt-4o-mini", temperature=0)
async def awaited(text: str, times: int = 1) -> list[Invoice]:
    """Read the invoices."""
    raise NotImplementedError


async def functions_that_a_model_answers_are_typed_as_they_are_written() -> None:
    assert_type(bare("A-1"), Invoice)
    assert_type(bare.run("A-1"), Run[Invoice])
    assert_type(await awaited("A-1", times=2), list[Invoice])
    assert_type(awaited.run("A-1"), Run[list[Invoice]])
    bare(1)  # pyright: ignore[reportArgumentType]
    awaited.run()  # pyright: ignore[reportCallIssue]
