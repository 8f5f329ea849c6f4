"""Commands that ask a running node: check, explain, status, reload."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.table import Table

from eir.client.node import ExplainReply, NodeClient
from eir.client.tls import ClientTls
from eir.core.imei import ImeiKey, digits15, key_from_typed, masked
from eir.core.policy import Status
from eir.core.subscriber import ImsiCode, imsi_from_typed, imsi_text, msisdn_from_typed
from eir.doors.eligibility_codec import read_texts
from eir.doors.grpc_admin import explain_reply
from eir.errors import Refused
from eir.ops import console
from eir.ops.as_of import explain_as_of
from eir.ops.chronicle import utc as utc
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.settings.config import Config, load_config
from eir.wire.v1 import admin_pb2, eligibility_pb2

ImeiArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMEI",
        help="14, 15 or 16 digits, as on the box or by *#06#; of 15 the last is verified as the"
        " check digit.",
    ),
]
MsisdnArgument = Annotated[
    str,
    typer.Argument(
        metavar="MSISDN",
        help="The number as people write it: 0912…, +98912…, 0098912…. Left out: none is known.",
    ),
]
ImsiOption = Annotated[str, typer.Option("--imsi", help="The SIM's IMSI, 5 to 15 digits.")]
AddressOption = Annotated[
    str,
    typer.Option(
        "--address", help="host:port or unix:path of the node; default: the configuration's."
    ),
]
AsOfOption = Annotated[
    int, typer.Option("--as-of", metavar="SERIAL", min=0, help="As it was at this registry serial.")
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", help="PEM file of who signed the node's certificate: TLS.")
]
CertOption = Annotated[Path | None, typer.Option("--cert", help="PEM file of our certificate.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="PEM file of our key.")]


def check(
    imei: ImeiArgument,
    msisdn: MsisdnArgument = "",
    imsi: ImsiOption = "",
    address: AddressOption = "",
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the node: may this device be used with this number?

    The question goes through the door that the core network uses, and counts as one of its checks.

    \b
    Examples:
      eir check 359999010001097
      eir check 359999010001097 09121234567
      eir check 35999901000109 --imsi 432110123456789
      eir check 359999010001097 +989121234567 --address 10.0.0.7:50061 --ca node-ca.pem

    Exit code: 0 for any verdict, 2 if the data are stale or no node answers, 3 if what was typed
    can't be right.
    """
    settings = load_config(config)
    typed = _typed(settings, imei, msisdn, imsi)
    with NodeClient(_check_address(settings, address), tls=_tls(settings, ca, cert, key)) as node:
        begun = time.perf_counter()
        reply = node.check(*typed)
        took = (time.perf_counter() - begun) * 1e6
    if as_json:
        console.print_json(_as_dict(reply))
    else:
        _print_verdict(reply, device=masked(ImeiKey(int(typed[0][:14]))), took=took)
    _exit_if_stale(reply.stale)


def explain(
    imei: ImeiArgument,
    msisdn: MsisdnArgument = "",
    imsi: ImsiOption = "",
    address: AddressOption = "",
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    as_of: AsOfOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why: every rule that is tried, and the data that decide.

    Asks over the admin socket, so it works on the node's own machine, for users who may administer.
    With --as-of it reads the depot instead, and decides on the lists, policy and time of that
    serial, as far back as the depot keeps them.

    \b
    Examples:
      eir explain 359999010001097 09121234567
      eir explain 359999010001097 09121234567 --as-of 1203
      eir explain 35999901000109 --imsi 432110123456789 --json
    """
    settings = load_config(config)
    typed = _typed(settings, imei, msisdn, imsi)
    if as_of:
        _explain_as_of(settings, as_of, typed, as_json=as_json)
        return
    tls = _tls(settings, ca, cert, key) if address else None
    with NodeClient(address or f"unix:{settings.admin.socket}", tls=tls) as node:
        reply = node.explain(*typed)
    if as_json:
        console.print_json(_as_dict(reply))
        return
    _print_explanation(reply)


def status(
    address: AddressOption = "",
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the node serves, since when, and its alarms.

    \b
    Examples:
      eir status
      eir status --json

    Exit code: 0 ready, 2 not ready, stale, or no node answers. An ALARM line says what a person
    should look at.
    """
    settings = load_config(config)
    tls = _tls(settings, ca, cert, key) if address else None
    with NodeClient(address or f"unix:{settings.admin.socket}", tls=tls) as node:
        reply = node.status()
    if as_json:
        console.print_json(_as_dict(reply))
    else:
        _print_status(reply)
    _exit_if_stale(reply.stale or not reply.ready)


def _explain_as_of(
    settings: Config, serial: int, typed: tuple[str, str, str], *, as_json: bool
) -> None:
    with console.progress_bar(f"building serial {serial} again", hidden=as_json):
        told = explain_as_of(settings, serial, *read_texts(*typed))
    reply = explain_reply(told.explanation)
    if as_json:
        spans = {"served_from": told.served_from, "served_until": told.served_until}
        console.print_json({**_as_dict(reply), "as_of": {"serial": serial, **spans}})
        return
    _print_explanation(reply)
    line = told.line(utc(told.explanation.now), utc(told.served_until))
    console.out.print(line)


def _workers_table(workers: Sequence[admin_pb2.WorkerStatus]) -> Table:
    columns = ("worker", "pid", "state", "since", "restarts", "checks", "serials", "RSS", "PSS")
    rows = console.table(*columns)
    for worker in workers:
        rows.add_row(
            str(worker.slot) if worker.slot >= 0 else "",
            str(worker.pid),
            worker.state,
            utc(worker.since) if worker.since else "",
            str(worker.restarts),
            f"{worker.checks:,}",
            ", ".join(f"{feed} {serial}" for feed, serial in sorted(worker.serials.items())),
            f"{worker.rss_bytes / 1e6:,.0f} MB",
            f"{worker.pss_bytes / 1e6:,.0f} MB",
        )
    return rows


def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have the node read configuration, certificates, depot again.

    Nothing pauses. What can't be taken is refused (exit code 3), and what served goes on. SIGHUP
    does the same, with the outcome in the node's log.

    \b
    Example:
      eir config check && eir reload
    """
    settings = load_config(config)
    with NodeClient(f"unix:{settings.admin.socket}") as node:
        changes = list(node.reload(timeout=600).changes)
    if as_json:
        console.print_json({"changes": changes})
        return
    for change in changes or ["nothing had changed"]:
        console.out.print(change)


def _print_explanation(reply: ExplainReply) -> None:
    facts = console.table("", "")
    facts.add_row("device", digits15(ImeiKey(reply.imei14)) if reply.imei14 else "not an IMEI")
    facts.add_row("number", str(reply.msisdn or "none known"))
    if reply.imsi:
        facts.add_row("IMSI", imsi_text(ImsiCode(reply.imsi)))
    facts.add_row("facts", "; ".join(reply.facts) or "none")
    facts.add_row("black lists", ", ".join(reply.black) or "none")
    if reply.HasField("deadline"):
        facts.add_row("deadline", utc(reply.deadline))
    facts.add_row("grace time", utc(reply.grace_time))
    for origin in reply.origins:
        facts.add_row(
            origin.feed, f"{origin.registry_id} serial {origin.serial} ({origin.session})"
        )
    console.out.print(facts)
    console.out.print()
    rules = console.table("row", "condition", "")
    for rule in reply.rules:
        rules.add_row(str(rule.row), rule.condition, rule.outcome)
    console.out.print(rules)
    console.out.print()
    decided = Status(reply.decided_status or reply.status).name
    changed = f", decided {decided}, made milder by {reply.changed_by}" if reply.changed_by else ""
    console.out.print(f"{Status(reply.status).name}: {reply.reason_name}{changed}")


def _print_verdict(reply: eligibility_pb2.CheckReply, *, device: str, took: float) -> None:
    rows = console.table("", "")
    rows.add_row("device", device)
    rows.add_row("status", Status(reply.status).name)
    if reply.decided_status not in (0, reply.status):
        rows.add_row("decided", f"{Status(reply.decided_status).name} (made milder)")
    rows.add_row("reason", reply.reason_name)
    if reply.valid_until:
        rows.add_row("valid until", utc(reply.valid_until))
    if reply.stale:
        rows.add_row("stale", "YES: the registry was not heard from for too long")
    rows.add_row("serials", f"registry {reply.registry_serial}, operator {reply.operator_serial}")
    rows.add_row("took", f"{took:.0f} µs")
    console.out.print(rows)


def _print_status(reply: admin_pb2.StatusReply) -> None:
    facts = console.table("", "")
    facts.add_row("ready", "yes" if reply.ready else "NO: every check is answered UNAVAILABLE")
    if reply.stale:
        facts.add_row("stale", "YES: the registry was not heard from for too long")
    facts.add_row("mode", reply.mode)
    facts.add_row("since", f"{utc(reply.started_at)}, version {reply.version}")
    answered = ((name, count) for name, count in sorted(reply.checks.items()) if count)
    facts.add_row("checks", ", ".join(f"{n} {c:,}" for n, c in answered) or "none yet")
    for served in reply.generations:
        origin = served.origin
        facts.add_row(origin.feed, f"{origin.registry_id} serial {origin.serial}")
        facts.add_row("  made", utc(served.made_at))
        facts.add_row("  session", origin.session)
        facts.add_row("  digest", origin.digest)
        for name, items in sorted(served.items.items()):
            facts.add_row(f"  {name}", f"{items:,}")
    for overlay in reply.overlays:
        grown = f"{overlay.deltas:,} deltas, {overlay.touched_keys:,} keys since the base"
        due = f"; the next is due at {overlay.due_at_keys:,}"
        facts.add_row(f"{overlay.feed} overlay", grown + due)
        if overlay.compacting or overlay.last:
            facts.add_row("  compaction", "runs" if overlay.compacting else overlay.last)
    console.out.print(facts)
    for order in reply.orders:
        until = f" until {utc(order.until)}" if order.until else ""
        by = f"by {order.who or 'a list file'} at {utc(order.at)}: {order.why}"
        console.out.print(f"ordered: {order.what}{until}, {by}")
    console.out.print(_workers_table(reply.workers))
    for each in reply.happenings:
        words = (utc(each.at), each.what, each.who, each.why, each.detail)
        console.out.print("  ".join(filter(None, words)))
    for alarm in reply.alarms:
        console.out.print(f"ALARM {alarm}")


def _typed(settings: Config, imei: str, msisdn: str, imsi: str) -> tuple[str, str, str]:
    """What was typed as the core would send it. Raises Refused, saying which of them is wrong."""
    key = key_from_typed(imei)
    number = str(msisdn_from_typed(msisdn, settings.numbering)) if msisdn else ""
    return f"{key:014d}", number, imsi_text(imsi_from_typed(imsi)) if imsi else ""


def _check_address(settings: Config, given: str) -> str:
    if given:
        return given
    if not settings.grpc.listen:
        raise Refused("no-address", "the configuration shuts the gRPC door: give --address")
    return settings.grpc.listen[0].replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


def _tls(
    settings: Config, ca: Path | None, cert: Path | None, key: Path | None
) -> ClientTls | None:
    if ca is not None:
        return ClientTls(ca=ca, cert=cert, key=key)
    if settings.grpc.tls_cert is not None:
        raise Refused("client-tls", "the node speaks TLS: give --ca (and --cert, --key for mTLS)")
    return None


def _as_dict(message: Message) -> dict[str, object]:
    fields: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def _exit_if_stale(stale: bool) -> None:
    if stale:
        raise typer.Exit(console.EXIT_INCOMPLETE)
