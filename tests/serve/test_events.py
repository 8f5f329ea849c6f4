"""Named counts are seen by other processes at once, and stay within their room."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir import limits
from eir.serve.counters import living
from eir.serve.events import (
    OTHERS,
    OVERFLOW,
    SLOTS,
    Events,
    EventsFile,
    Peers,
    host_of,
    read_events,
)

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


def test_peers_are_named_up_to_so_many() -> None:
    peers = Peers()
    first = [peers.named(f"192.0.2.{number}") for number in range(limits.MAX_COUNTED_PEERS)]
    assert first == [f"192.0.2.{number}" for number in range(limits.MAX_COUNTED_PEERS)]
    assert {peers.named("198.51.100.1"), peers.named("198.51.100.2")} == {OTHERS}
    assert peers.named("192.0.2.7") == "192.0.2.7"


@given(st.text(max_size=300))
def test_any_name_of_a_peer_can_be_counted(name) -> None:
    events = Events()
    events.add(("grpc", "fault", "RESOURCE_EXHAUSTED", Peers().named(name)))
    assert events["grpc", "fault"] == 1


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("ipv4:192.0.2.1:5", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5", "2001:db8::1"),
        ("ipv6:[::1]:5", "::1"),
        ("192.0.2.1:5", "192.0.2.1"),
        ("unix:", "unix"),
        ("unix:1", "unix"),
    ],
)
def test_the_host_of_an_address(address, host) -> None:
    assert host_of(address) == host


def test_threads_count_together() -> None:
    events = Events()
    key = ("grpc", "fault", "x", "")

    def count() -> None:
        for _ in range(20_000):
            events.add(key)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events[key] == 80_000


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
