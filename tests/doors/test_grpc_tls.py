"""TLS and mTLS on every engine that ends them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from grpc import StatusCode

from eir.errors import Refused
from eir.serve.events import Events


def _encrypt(path):
    key = load_pem_private_key(path.read_bytes(), None)
    secret = BestAvailableEncryption(b"x")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


def _pair(tls_files):
    return {**tls_files(), "client_ca": None}


def test_tls(
    open_tls_door, checker, tls_files, ours, trusting, theirs, stub_of, failure_of, a_check
):
    address = open_tls_door(checker, **_pair(tls_files)).address
    assert stub_of(address, trusting(ours)).Check(a_check, timeout=30).status
    for stranger in (stub_of(address, trusting(theirs)), stub_of(address)):
        assert failure_of(stranger.Check, a_check)[0] is StatusCode.UNAVAILABLE


def test_tls_may_be_reached_from_elsewhere(
    open_tls_door, checker, tls_files, ours, trusting, stub_of, a_check
):
    port = open_tls_door(checker, listen=("0.0.0.0:0",), **_pair(tls_files)).address.rpartition(
        ":"
    )[2]
    assert stub_of(f"127.0.0.1:{port}", trusting(ours)).Check(a_check, timeout=30).status


def test_mtls(
    open_tls_door, checker, tls_files, ours, trusting, theirs, stub_of, failure_of, a_check
):
    known, unknown = ours.issue("core-1"), theirs.issue("core-1")
    events = Events()
    door = open_tls_door(checker, events=events, **tls_files())
    assert stub_of(door.address, trusting(ours, known)).Check(a_check, timeout=30).status
    for credentials in (trusting(ours), trusting(ours, unknown)):
        stub = stub_of(door.address, credentials)
        assert failure_of(stub.Check, a_check)[0] is StatusCode.UNAVAILABLE
    assert {(key[1], key[3]): times for key, times in events} == {("answer", "core-1"): 1}


def test_new_certificates_are_taken_up_and_no_connection_is_lost(
    open_tls_door, checker, tls_files, ours, trusting, theirs, stub_of, failure_of, a_check
):
    door = open_tls_door(checker, **_pair(tls_files))
    before = stub_of(door.address, trusting(ours))
    stream = before.CheckStream(iter(()), timeout=30)
    assert before.Check(a_check, timeout=30).status
    tls_files(theirs)
    door.reload()
    assert stub_of(door.address, trusting(theirs)).Check(a_check, timeout=30).status
    late = stub_of(door.address, trusting(ours))
    assert failure_of(late.Check, a_check)[0] is StatusCode.UNAVAILABLE
    assert before.Check(a_check, timeout=30).status
    assert list(stream) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda files, other: files["tls_key"].unlink(), "tls-unreadable"),
        (lambda files, other: files["tls_cert"].write_bytes(b""), "tls-unusable"),
        (lambda files, other: files["tls_key"].write_bytes(other[0]), "tls-unusable"),
        (lambda files, other: _encrypt(files["tls_key"]), "tls-unusable"),
        (lambda files, other: files["client_ca"].write_bytes(b"x"), "tls-unusable"),
    ],
)
def test_bad_files_are_refused_and_the_old_go_on(
    open_tls_door, checker, tls_files, ours, trusting, stub_of, a_check, damage, reason, capfd
):
    files, known = tls_files(), ours.issue("core-1")
    door = open_tls_door(checker, **files)
    damage(files, ours.issue("other"))
    with pytest.raises(Refused) as refused:
        door.reload()
    assert refused.value.reason == reason
    assert stub_of(door.address, trusting(ours, known)).Check(a_check, timeout=30).status
    with pytest.raises(Refused) as refused:
        open_tls_door(checker, **files)
    assert refused.value.reason == reason
    assert "pass phrase" not in capfd.readouterr().err


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key"])
def test_half_a_pair(open_tls_door, checker, tls_files, missing):
    with pytest.raises(Refused, match="tls-incomplete"):
        open_tls_door(checker, **{**_pair(tls_files), missing: None})
