"""What keeper and worker say survives the way, files included, and its damage is loud."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core.policy import DEFAULT_STATUS, BlackList, Policy, Status
from eir.serve import handover
from eir.serve.handover import Fault, HandedFeed, ReloadOrder, ServeOrder, WorkerAnswer

NAMES = st.sampled_from(["stolen", "lost", "cloned", "by-decree"])
MOMENTS = st.integers(0, (1 << 32) - 1)
POLICIES = st.builds(
    Policy,
    mode=st.sampled_from(["enforce", "shadow"]),
    status=st.dictionaries(st.sampled_from(sorted(DEFAULT_STATUS)), st.sampled_from(Status)),
    black=st.dictionaries(
        NAMES,
        st.builds(
            BlackList,
            status=st.sampled_from(Status),
            binding_overrides=st.booleans(),
            bound_overrides=st.booleans(),
            active_from=MOMENTS,
            active_until=MOMENTS,
        ),
    ),
    black_order=st.lists(NAMES, unique=True).map(tuple),
    home_plmns=st.lists(st.sampled_from(["43211", "432110"])).map(tuple),
    enforced_plmns=st.lists(st.sampled_from(["43235"])).map(tuple),
)


@given(POLICIES, st.integers(1, (1 << 63) - 1), MOMENTS, st.booleans())
def test_an_order_arrives_as_it_was_sent(policy, number, moment, stale):
    feeds = (
        HandedFeed("registry", "a" * 36, 2**63, "f" * 32, (7, 8)),
        HandedFeed("operator", "b" * 36, 1, "0" * 32, (9,)),
    )
    order = ServeOrder(number, feeds, policy, moment, 3_600, stale)
    message, files = handover.pack_order(order)
    assert handover.unpack_order(message, files) == order
    assert files == [7, 8, 9]
    reload = ReloadOrder(number)
    assert handover.unpack_order(*handover.pack_order(reload)) == reload


@pytest.mark.parametrize(
    "answer",
    [
        WorkerAnswer(0, 17),
        WorkerAnswer(3, 17, None, ("127.0.0.1:1", "unix:s"), "17-ab", 0.25),
        WorkerAnswer(4, 17, Fault("listen-failed", "taken", "127.0.0.1:1")),
    ],
)
def test_an_answer_arrives_as_it_was_sent(answer):
    assert handover.unpack_answer(handover.pack_answer(answer)) == answer


def test_open_files_go_along(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    ours, theirs = handover.new_pair()
    with ours, theirs, path.open("rb") as file:
        path.unlink()
        handover.send(ours, b"m", [file.fileno()])
        message, files = handover.receive(theirs)
    assert message == b"m"
    assert os.pread(files[0], 100, 0) == b"content"
    assert not os.get_inheritable(files[0])
    order = ServeOrder(1, (HandedFeed("registry", "s", 1, "d", tuple(files)),), Policy())
    handover.close_files(order)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(files[0])


def test_messages_stay_whole_and_the_end_is_seen():
    ours, theirs = handover.new_pair()
    with theirs:
        with ours:
            handover.send(ours, b"one")
            handover.send(ours, b"two")
        assert handover.receive(theirs) == (b"one", [])
        assert handover.receive(theirs) == (b"two", [])
        assert handover.receive(theirs) is None


def test_who_does_not_read_is_not_waited_for():
    ours, theirs = handover.new_pair()
    with ours, theirs:
        with contextlib.suppress(BlockingIOError):
            for _ in range(10_000):
                handover.send(ours, bytes(1_000))
        with pytest.raises(BlockingIOError):
            handover.send(ours, bytes(1_000))


def test_a_message_too_long_or_cut_is_loud(monkeypatch):
    ours, theirs = handover.new_pair()
    with ours, theirs:
        with pytest.raises(ValueError, match="a message of"):
            handover.send(ours, bytes(handover.MAX_MESSAGE_BYTES + 1))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        handover.send(ours, bytes(2_000))
        monkeypatch.setattr(handover, "MAX_MESSAGE_BYTES", 1_000)
        with pytest.raises(ValueError, match="was cut"):
            handover.receive(theirs)
