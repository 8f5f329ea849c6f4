"""Peers that no one here wrote: asked for loudly, and never missing in CI."""

import asyncio
import importlib.util
import logging
import os
import shutil
import warnings
from pathlib import Path

import pytest

from tests.doors.s13 import talk
from tests.doors.s13.talk import MME, REALM

S13 = 16777252
PEERS = Path(__file__).parents[2] / "peers"


def needs(name: str, found: object) -> None:
    """Skip, loudly, without this peer; with CI=true its absence is a failure."""
    if found:
        return
    words = f"{name} is not installed: run tests/peers/install.sh (and pip install .[peers])"
    if os.environ.get("CI") == "true":
        pytest.fail(words, pytrace=False)
    warnings.warn(words, stacklevel=2)
    pytest.skip(words)


def needs_program(*names: str) -> None:
    for name in names:
        needs(name, shutil.which(name))


def needs_module(name: str) -> None:
    needs(name, importlib.util.find_spec(name))


async def run(*words: str, timeout: float = 60, **how) -> str:
    """A peer's standard output; its failure, with what it said, is the test's."""
    child = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **how
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), timeout)
    except TimeoutError:
        child.kill()
        out, err = await child.communicate()
        pytest.fail(f"{words[0]} did not end: {out.decode()}{err.decode()}")
    assert child.returncode == 0, f"{words}: {out.decode()}\n{err.decode()}"
    return out.decode()


class Mme:
    """A python-diameter node (PyPI) with one connection to the door; its methods block."""

    def __init__(self, port: int) -> None:
        from diameter.node import Node
        from diameter.node.application import SimpleThreadingApplication

        logging.getLogger("diameter").setLevel(logging.CRITICAL)
        self.node = Node(MME, REALM, ip_addresses=["127.0.0.1"], vendor_ids=[10415])
        self.node.wakeup_interval = 1
        self.app = SimpleThreadingApplication(S13, is_auth_application=True)
        self.peer = self.node.add_peer(
            f"aaa://{talk.EIR}:{port}",
            REALM,
            ip_addresses=["127.0.0.1"],
            is_persistent=True,
            is_default=True,
        )
        self.node.add_application(self.app, [self.peer])

    def start(self) -> None:
        self.node.start()
        self.app.wait_for_ready(timeout=20)

    def stop(self) -> None:
        self.node.stop(wait_timeout=10)

    def ask(self, imei: str, *, msisdn: bytes = b"", **changes):
        """``msisdn``: TBCD, as AVP 701."""
        from diameter.message import Avp
        from diameter.message.avp.grouped import TerminalInformation
        from diameter.message.commands import MeIdentityCheckRequest

        request = MeIdentityCheckRequest()
        request.header.application_id = S13
        request.session_id = self.node.session_generator.next_id()
        request.auth_session_state = 1
        request.origin_host, request.origin_realm = MME.encode(), REALM.encode()
        request.destination_realm = REALM.encode()
        request.user_name = "432110123456789"
        request.terminal_information = TerminalInformation(imei=imei, software_version="07")
        for name, value in changes.items():
            setattr(request, name, value)
        if msisdn:
            request.append_avp(Avp.new(701, 10415, value=msisdn, is_mandatory=False))
        return self.app.send_request(request, timeout=20)
