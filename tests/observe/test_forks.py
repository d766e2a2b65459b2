"""What is told of forks and of the end of workers, in the order in which `multiprocessing` and the system tell it."""

from __future__ import annotations

import gc
import multiprocessing.process
import multiprocessing.util
import os
import sys
import threading

import pytest

from looopy.observe import forks, instrument
from looopy.testing import calls, says
from observe.watched import SPANS, Keeps, agent, answer, light, sdk


class Thing:
    def __init__(self) -> None:
        self.told: list[str] = []

    def forked(self) -> None:
        self.told.append("forked")

    def shutdown(self) -> None:
        self.told.append("shut down")


def finalized(since: set) -> None:
    """Do what a worker does at its end, for what was registered since."""
    registry = multiprocessing.util._finalizer_registry
    for key in set(registry) - since:
        registry[key]()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_is_told_to_whatever_lives() -> None:
    thing = Thing()
    forks.forget_in_forks(thing)
    forks.forget_in_forks(Thing())
    gc.collect()
    child = os.fork()
    if not child:
        os._exit(len(thing.told) + 10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    assert thing.told == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_until_another_thread_has_made_what_is_of_no_use_half_made() -> None:
    making, made = threading.Event(), threading.Event()

    def make() -> None:
        with forks.in_one_process():
            making.set()
            made.wait(0.2)  # nobody sets it: the fork is asked for in the meantime
            made.set()

    thread = threading.Thread(target=make)
    thread.start()
    assert making.wait(5)
    child = os.fork()
    if not child:
        with forks.in_one_process():  # which is free in the child
            os._exit(10 + made.is_set())
    thread.join(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11


async def test_in_a_forks_child_the_count_begins_anew_and_the_parents_runs_stay_the_parents() -> None:
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=sdk()) as recording:
        assert await answer() == "5"
        assert recording.flush()
        assert recording.delivered == SPANS
        forks._forked()
        assert (recording.delivered, recording.lost) == (0, 0)
        assert await answer() == "5"
    assert recording.delivered == SPANS
    forks._forked()
    assert recording.over


def test_what_came_along_into_a_worker_ends_with_it() -> None:
    thing, before = Thing(), set(multiprocessing.util._finalizer_registry)
    known = set(multiprocessing.util._afterfork_registry)
    forks.end_with_fork(thing)
    for key in set(multiprocessing.util._afterfork_registry) - known:
        key[2](multiprocessing.util._afterfork_registry[key])  # as a worker does first of all
    finalized(before)

    assert thing.told == ["shut down"]


@pytest.mark.parametrize(("parent", "told"), [(object(), ["shut down"]), (None, [])])
def test_what_begins_in_a_worker_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, parent: object, told: list
) -> None:
    monkeypatch.setattr(multiprocessing.process, "_parent_process", parent)
    thing, before = Thing(), set(multiprocessing.util._finalizer_registry)
    forks.end_with_process(thing)
    finalized(before)

    assert thing.told == told


def test_a_program_without_multiprocessing_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "multiprocessing.util")
    monkeypatch.delitem(sys.modules, "multiprocessing.process")
    thing = Thing()
    forks.end_with_fork(thing)
    forks.end_with_process(thing)

    assert thing.told == []
    assert "multiprocessing.util" not in sys.modules


async def test_a_run_that_goes_on_in_a_forks_child_is_recorded_by_the_parent_alone() -> None:
    keeps = Keeps()
    with instrument(exporters=[keeps], tracer_provider=light()) as recording:

        async def splits() -> str:
            """Go on as the child of a fork would."""
            forks._forked()
            return "5"

        script = calls("splits"), says("5")
        assert await answer(agent(*script, tools=[splits])) == "5"
        assert recording.flush()
    assert keeps.names == []
