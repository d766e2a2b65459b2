"""The stores in memory keep what a real store would keep: values, not the objects that were handed in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy.errors import StateConflict
from looopy.events import Artifact, ArtifactUpdate
from looopy.messages import Message, TextPart
from looopy.state import LoopState
from looopy.stores.memory import InMemoryArtifactStore, InMemoryStateStore

STATE = LoopState(task_id="t", context_id="c", messages=(Message.user("go"),), seq=4, saved=4)


def piece(*texts: str, artifact_id: str = "a", context_id: str = "c", append: bool = False) -> ArtifactUpdate:
    artifact = Artifact(artifact_id=artifact_id, parts=tuple(map(TextPart, texts)), name="report")
    return ArtifactUpdate(context_id=context_id, artifact=artifact, append=append)


async def test_a_state_is_loaded_as_it_was_saved() -> None:
    store = InMemoryStateStore()
    await store.save(STATE, after=0)

    loaded = await store.load("t")

    assert loaded == STATE
    assert loaded is not STATE


async def test_a_state_replaces_the_one_that_it_was_made_from_and_no_other() -> None:
    store = InMemoryStateStore()
    await store.save(STATE, after=0)
    await store.save(replace(STATE, task_id="other"), after=0)
    await store.save(replace(STATE, seq=7, saved=7), after=4)

    with pytest.raises(StateConflict, match="carried on by somebody else since checkpoint 4") as late:
        await store.save(replace(STATE, seq=9, saved=9), after=4)
    with pytest.raises(StateConflict, match="'t' is stored already"):
        await store.save(STATE, after=0)

    assert (late.value.task_id, late.value.expected, late.value.found) == ("t", 4, 7)
    assert await store.load("t") == replace(STATE, seq=7, saved=7)
    assert await store.load("other") == replace(STATE, task_id="other")


async def test_a_task_that_is_unknown_or_forgotten_has_no_state() -> None:
    store = InMemoryStateStore()
    await store.save(STATE, after=0)
    await store.delete("t")
    await store.delete("never known")

    assert await store.load("t") is None


async def test_an_artifact_is_replaced_or_added_to() -> None:
    store = InMemoryArtifactStore()
    await store.save(piece("one", append=True))
    await store.save(piece("two", append=True))
    assert await store.load("c", "a") == piece("one", "two")

    await store.save(piece("new"))

    assert await store.load("c", "a") == piece("new")


async def test_the_last_update_says_whether_an_artifact_is_whole() -> None:
    store = InMemoryArtifactStore()
    await store.save(replace(piece("one"), last_chunk=False))
    await store.save(piece("two", append=True))

    assert await store.load("c", "a") == piece("one", "two")


async def test_artifacts_are_listed_by_context_oldest_first() -> None:
    store = InMemoryArtifactStore()
    for artifact_id in ("z", "a", "m"):
        await store.save(piece("x", artifact_id=artifact_id))
    await store.save(piece("x", artifact_id="z"))
    await store.save(piece("x", artifact_id="b", context_id="other"))

    assert list(await store.list("c")) == ["z", "a", "m"]
    assert list(await store.list("other")) == ["b"]
    assert list(await store.list("unknown")) == []
    assert await store.load("other", "z") is None


@given(pieces=st.lists(st.lists(st.text(), max_size=3), min_size=1, max_size=6))
async def test_pieces_add_up_in_order(pieces: list[list[str]]) -> None:
    store = InMemoryArtifactStore()
    for texts in pieces:
        await store.save(piece(*texts, append=True))

    assert await store.load("c", "a") == piece(*[text for texts in pieces for text in texts])
