"""Named counts are seen by other processes at once, and stay within their room."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from eir.serve.counters import living
from eir.serve.events import OVERFLOW, SLOTS, Events, EventsFile, read_events

WORDS = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=80)
KEYS = st.tuples(WORDS, WORDS, WORDS, WORDS)


@given(st.lists(st.tuples(KEYS, st.integers(0, 1 << 40)), max_size=30))
def test_what_was_added_is_read(added) -> None:
    events, expected = Events(), {}
    for key, times in added:
        events.add(key, times)
        expected[key] = expected.get(key, 0) + times
    assert dict(events) == expected
    assert dict(Events(bytearray(events._memory))) == expected
    for key, times in expected.items():
        assert events[key] == times
        assert events[key[:1]] == sum(n for k, n in expected.items() if k[0] == key[0])


def test_further_names_share_the_last_slot() -> None:
    events = Events()
    for number in range(SLOTS + 100):
        events.add(("s13", "fault", str(number), ""))
    events.add(("s13", "fault", "0", ""))
    assert len(dict(events)) == SLOTS
    assert events[OVERFLOW] == 101
    assert events["s13", "fault", "0"] == 2


def test_a_half_written_name_is_not_there_yet() -> None:
    memory = bytearray(Events()._memory)
    memory[:5] = b"s13\nc"
    assert dict(Events(memory)) == {}


def test_others_read_the_file_while_it_is_written(tmp_path) -> None:
    file = EventsFile(tmp_path)
    assert read_events(tmp_path, os.getpid()) == {}
    file.events.add(("s13", "opened", "", "mme.x"))
    assert read_events(tmp_path, os.getpid()) == {("s13", "opened", "", "mme.x"): 1}
    assert read_events(tmp_path, os.getpid() + 1) == {}
    assert set(living(tmp_path)) == {os.getpid()}
