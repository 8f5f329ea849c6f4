"""The operator's door: what it tells, whom it lets in; a refused reload changes nothing."""

from __future__ import annotations

import stat

import pytest
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eir.core.explanation import Explanation, Origin, Rule
from eir.core.policy import Status
from eir.doors.grpc_admin import AdminDoor, AdminSettings, NodeStatus, ServedGeneration
from eir.errors import Refused, Unavailable
from eir.wire.v1 import admin_pb2 as wire
from eir.wire.v1 import admin_pb2_grpc as wire_grpc
from eir.wire.v1 import eligibility_pb2

REGISTRY = Origin("registry", "local", "8f9a2c1e-0000-4000-8000-000000000001", 41, "ab12")


class FakeNode:
    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.explained: list[tuple[int, int, int]] = []
        self.reloaded_by: list[str] = []
        self.deadline = -1

    def status(self) -> NodeStatus:
        return NodeStatus(
            version="0.1.0",
            started_at=1_700_000_000,
            now=1_700_000_060,
            ready=True,
            stale=True,
            mode="shadow",
            generations=[
                ServedGeneration(origin=REGISTRY, made_at=1_699_999_000, items={"white": 12})
            ],
            reasons={256: "stolen"},
            checks={"WHITELISTED": 2**40},
            alarms=["stale: no head for 2 h"],
        )

    def explain(self, imei: int, msisdn: int, imsi: int) -> Explanation:
        self.explained.append((imei, msisdn, imsi))
        if self.failure:
            raise self.failure
        return Explanation(
            imei=imei,
            number=msisdn,
            imsi=imsi,
            status=Status.GREYLISTED,
            decided=Status.BLACKLISTED,
            changed_by="shadow",
            row=6,
            reason="stolen",
            reason_id=256,
            valid_until=0,
            facts=("the IMEI has bindings",),
            black=("stolen",),
            deadline=self.deadline,
            now=1_700_000_060,
            grace_time=1_700_000_000,
            rules=(Rule(1, "an override", "no"), Rule(6, "in a black list", "yes")),
            origins=(REGISTRY,),
        )

    async def reload(self, who: str) -> list[str]:
        self.reloaded_by.append(who)
        if self.failure:
            raise self.failure
        return ["policy.mode: enforce → shadow"]


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def start(loop_thread, node):
    doors = []

    def started(**settings):
        doors.append(AdminDoor(AdminSettings(**settings), node))
        loop_thread.run(doors[-1].start())
        return doors[-1]

    yield started
    for door in doors:
        if door.addresses:
            loop_thread.run(door.stop(0))


@pytest.fixture
def admin(start, tmp_path, connect):
    return wire_grpc.AdminStub(connect(start(socket=tmp_path / "admin.sock").addresses[0]))


def test_status_tells_everything(admin):
    reply = admin.Status(wire.StatusRequest(), timeout=30)
    assert (reply.version, reply.started_at, reply.now) == ("0.1.0", 1_700_000_000, 1_700_000_060)
    assert (reply.ready, reply.stale, reply.mode) == (True, True, "shadow")
    (served,) = reply.generations
    origin = served.origin
    assert (origin.feed, origin.registry_id, origin.session, origin.serial, origin.digest) == (
        "registry",
        "local",
        REGISTRY.session,
        41,
        "ab12",
    )
    assert (served.made_at, dict(served.items)) == (1_699_999_000, {"white": 12})
    assert dict(reply.reasons) == {256: "stolen"}
    assert dict(reply.checks) == {"WHITELISTED": 2**40}
    assert list(reply.alarms) == ["stale: no head for 2 h"]


def test_explain_tells_everything(admin, node):
    asked = wire.ExplainRequest(imei="490154203237518", msisdn="989121234567", imsi="00101012345")
    reply = admin.Explain(asked, timeout=30)
    assert node.explained == [(49015420323751, 989121234567, 101012345 << 4 | 11)]
    assert reply.status == eligibility_pb2.STATUS_GREYLISTED
    assert reply.decided_status == eligibility_pb2.STATUS_BLACKLISTED
    assert (reply.reason, reply.reason_name, reply.valid_until) == (256, "stolen", 0)
    assert (reply.changed_by, reply.row) == ("shadow", 6)
    assert [(r.row, r.condition, r.outcome) for r in reply.rules] == [
        (1, "an override", "no"),
        (6, "in a black list", "yes"),
    ]
    assert list(reply.facts) == ["the IMEI has bindings"]
    assert list(reply.black) == ["stolen"]
    assert not reply.HasField("deadline")
    assert (reply.now, reply.grace_time) == (1_700_000_060, 1_700_000_000)
    assert (reply.imei14, reply.msisdn, reply.imsi) == node.explained[0]
    assert [origin.serial for origin in reply.origins] == [41]


def test_a_deadline_long_past_is_still_a_deadline(admin, node):
    node.deadline = 0
    asked = wire.ExplainRequest(imei="490154203237518")
    assert admin.Explain(asked, timeout=30).HasField("deadline")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (wire.ExplainRequest(), "imei-missing"),
        (wire.ExplainRequest(imei="1", msisdn="+98912"), "msisdn-unusable"),
        (wire.ExplainRequest(imei="1", imsi="x"), "imsi-unusable"),
    ],
)
def test_explain_has_the_rules_of_check(admin, node, failure_of, request_, reason):
    assert failure_of(admin.Explain, request_) == (StatusCode.INVALID_ARGUMENT, reason)
    assert not node.explained


def test_explain_while_nothing_serves(admin, node, failure_of):
    node.failure = Unavailable("nothing")
    asked = wire.ExplainRequest(imei="490154203237518")
    assert failure_of(admin.Explain, asked) == (StatusCode.UNAVAILABLE, "not-ready")


def test_reload_names_what_changed_and_is_told_who_asks(admin, node, tmp_path):
    reply = admin.Reload(wire.ReloadRequest(), timeout=30)
    assert list(reply.changes) == ["policy.mode: enforce → shadow"]
    assert node.reloaded_by == [f"unix:{tmp_path}/admin.sock"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Refused("policy-mode", "no such mode"), StatusCode.FAILED_PRECONDITION),
        (RuntimeError("a bug"), StatusCode.INTERNAL),
    ],
)
def test_a_reload_that_fails(admin, node, failure_of, failure, code):
    node.failure = failure
    assert failure_of(admin.Reload, wire.ReloadRequest())[0] is code
    assert admin.Status(wire.StatusRequest(), timeout=30).ready


@pytest.mark.parametrize("method", ["Status", "Explain", "Reload"])
def test_garbage_is_invalid(start, tmp_path, connect, failure_of, node, method):
    channel = connect(start(socket=tmp_path / "a").addresses[0])
    call = channel.unary_unary(f"/eir.v1.Admin/{method}")
    assert failure_of(call, b"\xff\xff") == (StatusCode.INVALID_ARGUMENT, "message-malformed")
    assert not node.reloaded_by


def test_the_socket_has_its_mode(start, tmp_path):
    start(socket=tmp_path / "a", socket_mode=0o600)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    start(socket=tmp_path / "b")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o660


def test_eligibility_is_not_served_there(start, tmp_path, connect, failure_of):
    channel = connect(start(socket=tmp_path / "a").addresses[0])
    call = channel.unary_unary("/eir.v1.Eligibility/Check")
    assert failure_of(call, b"")[0] is StatusCode.UNIMPLEMENTED
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = stub.ServerReflectionInfo(iter([asked]), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert "eir.v1.Admin" in names
    assert "eir.v1.Eligibility" not in names


@pytest.mark.parametrize("with_tls", [False, True])
def test_from_other_machines_only_with_mtls(start, tls_files, with_tls):
    files = {name: tls_files()[name] for name in ("tls_cert", "tls_key")} if with_tls else {}
    with pytest.raises(Refused, match="admin-needs-mtls"):
        start(socket=None, remote_listen="127.0.0.1:0", **files)


def test_a_remote_operator_is_known_by_the_certificate(
    start, tls_files, tmp_path, ours, theirs, trusting, connect, failure_of, node
):
    door = start(socket=tmp_path / "a", remote_listen="127.0.0.1:0", **tls_files())
    local, remote = door.addresses
    assert wire_grpc.AdminStub(connect(local)).Status(wire.StatusRequest(), timeout=30).ready
    operator = wire_grpc.AdminStub(connect(remote, trusting(ours, ours.issue("noc-7"))))
    operator.Reload(wire.ReloadRequest(), timeout=30)
    assert node.reloaded_by == ["noc-7"]
    for credentials in (None, trusting(ours), trusting(ours, theirs.issue("noc-7"))):
        stranger = wire_grpc.AdminStub(connect(remote, credentials))
        code, _ = failure_of(stranger.Reload, wire.ReloadRequest())
        assert code is StatusCode.UNAVAILABLE
    assert node.reloaded_by == ["noc-7"]
