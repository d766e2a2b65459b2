"""`Session`: a conversation of many turns."""

from __future__ import annotations

import pytest
from agents import add, answers, delete, keeping

from looopy import AgentLoop, Message
from looopy.errors import ConfigurationError, LooopyError, NotResumable, TaskCanceled
from looopy.testing import ScriptedModel, calls, fails, says, stalls

# -------------------------------------------------------------------------------------------------------------- session


async def test_each_turn_of_a_session_begins_with_what_was_said_before() -> None:
    model = ScriptedModel(says("Hi Ada"), says("Ada"))
    session = AgentLoop(llm_provider=model).session(
        "c", history=[Message.user("I am Ada"), Message.assistant("ok")]
    )
    assert session.messages == (Message.user("I am Ada"), Message.assistant("ok"))

    first = await session.send("Hi")
    second = await session.send("Who am I?", user_id="u")

    assert (first.output, second.output) == ("Hi Ada", "Ada")
    assert (first.context_id, second.context_id, session.context_id) == ("c", "c", "c")
    assert first.task_id != second.task_id
    assert [message.text for message in model.requests[1].messages] == [
        "I am Ada",
        "ok",
        "Hi",
        "Hi Ada",
        "Who am I?",
    ]
    assert [request.session_id for request in model.requests] == ["c", "c"]
    assert [request.user_id for request in model.requests] == ["", "u"]
    assert [message.text for message in session.messages][-2:] == ["Who am I?", "Ada"]


async def test_a_session_makes_its_id_and_a_turn_may_have_another_for_the_logs() -> None:
    model = ScriptedModel(says("Hi"))
    agent = AgentLoop(llm_provider=model)
    session = agent.session()

    await session.send("Hi", session_id="s")

    assert session.context_id != agent.session().context_id
    assert model.requests[0].session_id == "s"


async def test_a_turn_must_be_over_before_the_next() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("Hel") + stalls(), says("ok"))).session("c")
    run = session.send("one").start()

    with pytest.raises(ConfigurationError, match="session 'c' is still working on the turn before") as caught:
        session.send("two")
    assert caught.value.argument == "prompt"
    assert session.messages == ()

    run.cancel()
    with pytest.raises(TaskCanceled):
        await run
    assert (await session.send("two")).output == "ok"
    assert [message.text for message in session.messages] == ["one", "Hel", "two", "ok"]


async def test_a_turn_that_failed_stays_in_the_conversation() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(fails(500), says("ok"))).session()
    with pytest.raises(LooopyError):
        await session.send("one")

    await session.send("two")

    assert [message.text for message in session.messages] == ["one", "two", "ok"]


async def test_a_turn_that_was_never_started_is_forgotten() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("a"), says("b"))).session()
    await session.send("one")
    session.send("never started")

    await session.send("two")

    assert [message.text for message in session.messages] == ["one", "a", "two", "b"]


async def test_the_output_of_a_turn_that_failed_is_not_the_turns_before() -> None:
    session = AgentLoop(llm_provider=ScriptedModel(says("old"), fails(500))).session()
    await session.send("one")

    with pytest.raises(LooopyError) as caught:
        await session.send("two")

    assert caught.value.result.output == ""


async def test_a_session_resumes_the_turn_that_waits_and_goes_on_from_there() -> None:
    agent, model = keeping(calls("delete", path="a"), says("done"), says("bye"))
    session = agent.session("c")
    await session.send("one")

    with pytest.raises(NotResumable, match="does not ask for"):
        await session.resume(inputs={"wrong": "yes"})
    result = await session.resume(inputs={"call_1": "yes"})
    await session.send("two")

    assert result.output == "done"
    assert [message.text for message in session.messages] == ["one", "", "deleted a", "done", "two", "bye"]
    assert len(model.requests) == 3


async def test_a_session_that_goes_on_without_the_answer_tells_the_model_so() -> None:
    """A call without an answer in the history is refused by every API."""
    model = ScriptedModel(calls("add", a=1) + calls("delete", path="a"), says("ok"))
    session = AgentLoop(llm_provider=model, tools=[add, delete]).session()
    waiting = await session.send("one")
    assert waiting.status == "input-required"

    await session.send("never mind")

    assert answers(model.requests[1].messages) == [
        ("call_1", "2"),
        ("call_2", "Error: not answered: the conversation went on without it"),
    ]


async def test_a_session_with_no_turn_that_waits_has_nothing_to_resume() -> None:
    agent, _ = keeping(says("Hi"))
    session = agent.session("c")

    with pytest.raises(ConfigurationError, match="session 'c' has no turn that waits for an answer"):
        session.resume()
    await session.send("one")
    with pytest.raises(ConfigurationError, match="go on with send"):
        session.resume(inputs={"x": 1})
