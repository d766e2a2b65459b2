"""`Tuned` asks another provider for a model and with parameters of its own."""

from __future__ import annotations

import pytest
from providers.wrapping import Named, proxy

from looopy import ConfigurationError, LLMRequest, Message, Retry, Tuned
from looopy.testing import ScriptedServer, fails, says

HI = (Message.user("Hi"),)


async def test_agents_share_a_provider_each_with_its_own_model_and_parameters():
    server = ScriptedServer(otherwise=lambda _: says("Hi."))
    shared = proxy(server)
    ann = Tuned(
        shared, model="gpt-4.1", temperature=1.2, max_tokens=100, top_p=0.5, params={"seed": 7, "top_p": 0.6}
    )

    for provider in (ann, Tuned(shared), shared):
        await provider.call(LLMRequest(messages=HI))

    asked = [
        {name: request.body.get(name) for name in ("model", "temperature", "max_tokens", "top_p", "seed")}
        for request in server.requests
    ]
    assert asked == [
        {"model": "gpt-4.1", "temperature": 1.2, "max_tokens": 100, "top_p": 0.6, "seed": 7},
        {"model": "gpt-4o-mini", "temperature": 0.7, "max_tokens": 4096, "top_p": None, "seed": None},
        {"model": "gpt-4o-mini", "temperature": 0.7, "max_tokens": 4096, "top_p": None, "seed": None},
    ]


async def test_what_the_request_says_itself_wins():
    model = Named("one", says("Hi."))

    await Tuned(model, model="two", temperature=1.0).call(
        LLMRequest(messages=HI, model="three", params={"temperature": 0.0})
    )

    assert (model.requests[0].model, model.requests[0].params) == ("three", {"temperature": 0.0})


async def test_it_says_of_itself_what_it_asks_and_stands_in_any_nesting():
    server = ScriptedServer(fails(429), says("Hi."))
    tuned = Tuned(proxy(server), model="gpt-4.1", temperature=1.0)

    response = await Retry(tuned, first_wait=0).call(LLMRequest(messages=HI))

    assert (response.message.text, response.attempts) == ("Hi.", 2)
    assert (tuned.model, Tuned(proxy(server)).model, tuned.base_url) == (
        "gpt-4.1",
        "gpt-4o-mini",
        "http://proxy",
    )
    assert tuned.parameters(LLMRequest(messages=HI))["temperature"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("gpt-4o",), {}, "Tuned: 'gpt-4o' is no provider"),
        ((Named("one"),), {"temperature": 3}, "temperature=3 must be a number from 0 to 2"),
        ((Named("one"),), {"params": 7}, "Tuned: params is a int: it must be a mapping"),
    ],
)
def test_what_cannot_work_is_said_at_once(arguments, options, said):
    with pytest.raises(ConfigurationError) as caught:
        Tuned(*arguments, **options)
    assert said in str(caught.value)
