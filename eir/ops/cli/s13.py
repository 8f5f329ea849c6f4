"""Commands that look at an S13 responder from outside: ours, or any other."""

from __future__ import annotations

import ssl
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from eir.errors import Refused
from eir.ops import console
from eir.ops.console import JsonOption
from eir.ops.s13_ping import PingAsk, PingOutcome, ping

app = typer.Typer(help="Diameter S13: talk to a responder as an MME would.")

_USUAL: Final = PingAsk(host="")
_EXCHANGES: Final = {
    "connect": "TCP, and TLS",
    "cer": "capabilities (CER)",
    "dwr": "watchdog (DWR)",
    "ecr": "one device (ECR)",
    "dpr": "farewell (DPR)",
}


@app.callback()
def _group() -> None:
    """A group even with one command."""


HostArgument = Annotated[str, typer.Argument(help="Name or address of the responder.")]
PortOption = Annotated[int, typer.Option(help="Its port.", min=1, max=65_535)]
OriginHostOption = Annotated[
    str, typer.Option(help="As whom we speak: the responder must allow this peer.")
]
OriginRealmOption = Annotated[str, typer.Option(help="Our realm.")]
RealmOption = Annotated[
    str, typer.Option(help="Destination-Realm; default: the realm the responder names.")
]
ImeiOption = Annotated[str, typer.Option(help="Sent as typed; the default names no real device.")]
ImsiOption = Annotated[str, typer.Option(help="The SIM's IMSI; default: none is sent.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds for all of it.", min=0.1)]
CaOption = Annotated[
    Path | None, typer.Option(help="PEM file of who signed the responder's certificate: TLS.")
]
CertOption = Annotated[Path | None, typer.Option(help="PEM file of our certificate.")]
KeyOption = Annotated[Path | None, typer.Option(help="PEM file of our key.")]


@app.command("ping")
def ping_host(
    host: HostArgument,
    port: PortOption = 3_868,
    origin_host: OriginHostOption = _USUAL.origin_host,
    origin_realm: OriginRealmOption = _USUAL.origin_realm,
    realm: RealmOption = "",
    imei: ImeiOption = _USUAL.imei,
    imsi: ImsiOption = "",
    timeout: TimeoutOption = 5.0,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Connect, say CER, DWR, one ECR and DPR, and time each.

    Exit code 0: all went well and the ECR has a verdict; 1: something was refused; 2: no answer.
    """
    us = replace(_USUAL, origin_host=origin_host, origin_realm=origin_realm)
    whom = replace(us, host=host, port=port, realm=realm, timeout_seconds=timeout)
    outcome = ping(replace(whom, imei=imei, imsi=imsi), tls=_tls(ca, cert, key))
    if as_json:
        console.print_json(asdict(outcome) | {"well": outcome.is_well})
    else:
        _print(outcome)
    if not outcome.is_well:
        raise typer.Exit(console.EXIT_ERROR)


def _print(outcome: PingOutcome) -> None:
    rows = console.table("exchange", "result", "ms", title=f"{outcome.origin_host}")
    for name, words in _EXCHANGES.items():
        if name in outcome.milliseconds:
            result = str(outcome.results.get(name, ""))
            rows.add_row(words, result, f"{outcome.milliseconds[name]:.2f}")
    console.out.print(rows)
    console.out.print(outcome.status or "no verdict")


def _tls(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        if cert or key:
            raise Refused("client-tls", "--cert and --key need --ca: TLS")
        return None
    try:
        context = ssl.create_default_context(cafile=str(ca))
        if cert is not None:
            context.load_cert_chain(cert, key, password="")
    except OSError as fault:
        raise Refused("client-tls", str(fault)) from fault
    return context
