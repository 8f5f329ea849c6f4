"""How work beside the answering gives way."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eir.serve import courtesy


def stands() -> tuple[int, int]:
    thread = threading.get_native_id()
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


@pytest.mark.parametrize("nice", [courtesy.BEHIND, courtesy.LAST])
def test_a_thread_goes_behind_and_no_other_with_it(nice):
    here = stands()
    with ThreadPoolExecutor(1, initializer=courtesy.yield_to_answers, initargs=(nice,)) as aside:
        assert aside.submit(stands).result() == (os.SCHED_BATCH, nice)
    assert stands() == here


def test_where_the_system_call_has_no_known_number_it_is_nice_all_the_same(monkeypatch):
    monkeypatch.setattr(courtesy.platform, "machine", lambda: "vax")
    with ThreadPoolExecutor(1, initializer=courtesy.yield_to_answers) as aside:
        assert aside.submit(stands).result()[1] == courtesy.BEHIND
