"""Functions whose body is a model."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import pytest

from looopy import AgentLoop, ConfigurationError, OutputInvalid, Usage
from looopy.errors import WrongThread
from looopy.llm import llm_function
from looopy.testing import ScriptedModel, calls, fails, says


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


@dataclass
class Person:
    name: str
    age: int


def test_a_function_is_answered_by_the_model():
    model = ScriptedModel(says("An ode."))

    @llm_function(provider=model, system="Be brief.", temperature=0.5)
    def summarise(text: str, words: int = 20) -> str:
        """Summarise this in at most {{ words }} words:

        {{ text }}
        """
        raise AssertionError("the body is the model")

    assert summarise("Freude, schöner Götterfunken") == "An ode."
    (request,) = model.requests
    assert [(message.role, message.text) for message in request.messages] == [
        ("system", "Be brief."),
        ("user", "Summarise this in at most 20 words:\n\nFreude, schöner Götterfunken"),
    ]
    assert (request.params, request.trace_name) == ({"temperature": 0.5}, "summarise")


async def test_an_async_function_is_awaited():
    model = ScriptedModel(calls("final_answer", name="Ann", age=30))

    @llm_function(provider=model)
    async def person_in(text: str) -> Person:
        """Who is it?"""

    assert await person_in("Ann is thirty.") == Person("Ann", 30)
    assert model.requests[0].messages[0].text == "Who is it?\n\ntext: Ann is thirty."


def test_the_return_annotation_is_the_type_of_the_answer():
    @llm_function(provider=ScriptedModel(calls("final_answer", result="good")))
    def mood(text: str) -> Mood:
        """The mood of {{ text }}?"""

    @llm_function(provider=ScriptedModel(*[calls("final_answer", result="so-so")] * 3))
    def word(text: str) -> Literal["good", "bad"]:
        """The mood of {{ text }}?"""

    assert mood("It rains.") is Mood.GOOD
    with pytest.raises(OutputInvalid):
        word("It rains.")


def test_arguments_without_a_place_stand_below_the_docstring_as_they_are_or_as_json():
    @llm_function
    def match(who: Person, *others: Person, limit: int | None = None) -> list[str]:
        """Who of the others is like them?"""

    assert match.prompt(Person("Ann", 30), Person("Bob", 31)) == (
        "Who of the others is like them?\n\n"
        'who: {"name":"Ann","age":30}\n\n'
        'others: [{"name":"Bob","age":31}]\n\n'
        "limit: null"
    )
    with pytest.raises(TypeError, match="missing a required argument: 'who'"):
        match()


def test_jinja_works_in_a_docstring():
    @llm_function
    def greet(names: list[str]) -> str:
        """Greet {% for name in names %}{{ name | upper }} {% endfor %}."""

    assert greet.prompt(["Ann", "Bob"]) == "Greet ANN BOB ."


def test_a_run_of_it_has_usage_and_cost():
    @llm_function(provider=ScriptedModel(says("Hi.", usage=Usage(input_tokens=3, output_tokens=1), cost=0.5)))
    def greet() -> str:
        """Say hello."""

    result = greet.run().result(5)

    assert (result.output, result.usage.total_tokens, result.cost) == ("Hi.", 4, 0.5)


def test_it_is_still_the_function_that_it_was():
    @llm_function
    def greet(name: str, times: int = 1) -> str:
        """Say hello to {{ name }}."""

    assert (greet.__name__, greet.__doc__, str(inspect.signature(greet))) == (
        "greet",
        "Say hello to {{ name }}.",
        "(name: 'str', times: 'int' = 1) -> 'str'",
    )
    assert repr(greet) == f"<llm_function {greet.__qualname__}>"


def test_an_agent_may_use_it_as_a_tool():
    @llm_function(provider=ScriptedModel(says("Bonjour.")))
    def translate(text: str) -> str:
        """Translate into French: {{ text }}"""

    model = ScriptedModel(calls("translate", text="Hello."), says("It is Bonjour."))
    result = AgentLoop(llm_provider=model, tools=[translate]).execute("Hello in French?").result(5)

    assert result.output == "It is Bonjour."
    assert [message.text for message in result.messages if message.role == "tool"] == ["Bonjour."]


def test_what_goes_wrong_is_raised():
    @llm_function(provider=ScriptedModel(fails(401)))
    def greet() -> str:
        """Say hello."""

    with pytest.raises(Exception, match="key"):
        greet()


async def test_a_blocking_one_on_the_thread_of_an_event_loop_says_what_to_write():
    @llm_function(model="stand-in")
    def greet() -> str:
        """Say hello."""

    with pytest.raises(WrongThread, match="write it as `async def greet` and await it"):
        greet()


def no_docstring(text: str) -> str: ...


def blank(text: str) -> str:
    """ """


def no_return(text: str):
    """Summarise."""


def returns_none(text: str) -> None:
    """Summarise."""


def unknown_type(text: str) -> Nowhere:  # noqa: F821
    """Summarise."""


def unknown_place(text: str) -> str:
    """Summarise {{ txt }}."""


def no_parameters() -> str:
    """Summarise {{ that }}."""


def single_braces(text: str) -> str:
    """Summarise {text}."""


def method(self, text: str) -> str:
    """Summarise {{ text }}."""


def generator(text: str) -> str:
    """Summarise."""
    yield text


def no_schema(text: str) -> pytest.MonkeyPatch:
    """Summarise."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_docstring, "has no docstring, which is what the model is asked"),
        (blank, "has no docstring"),
        (no_return, "does not say what it returns: write `-> str`, or the type that the answer shall have"),
        (returns_none, "returns None: write `-> str`"),
        (unknown_type, "returns a type that cannot be found (name 'Nowhere' is not defined): define it at the module's level"),
        (unknown_place, "has {{ txt }} in its docstring, and no parameter of that name; did you mean 'text'?"),
        (no_parameters, "has {{ that }} in its docstring, and no parameter of that name; the parameters are: none"),
        (single_braces, "has {text} in its docstring: write {{ text }}"),
        (method, "is a method: write a function, and pass it what it needs of the object"),
        (generator, "is a generator: llm.stream gives an answer as it comes"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_when_it_is_decorated(function, said):
    with pytest.raises(ConfigurationError) as caught:
        llm_function(function)
    assert str(caught.value).startswith(f"@llm_function {function.__qualname__} ({__file__}:")
    assert said in str(caught.value)


def test_so_are_other_mistakes():
    with pytest.raises(ConfigurationError, match="has no JSON schema"):
        llm_function(no_schema)
    with pytest.raises(ConfigurationError, match="a str was given; it takes a function"):
        llm_function("gpt-4o")
    with pytest.raises(
        TypeError, match="llm_function\\(\\) got an unexpected keyword argument 'modle'; did you mean 'model'"
    ):
        llm_function(modle="x")(no_parameters)
