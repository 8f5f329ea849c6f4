"""The first minute with the engine: a sample registry, a node, one question for each row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from eir.client.node import NodeClient
from eir.core.imei import key_from_digits, masked
from eir.core.policy import Status
from eir.core.subscriber import imsi_from_digits, masked_imsi, masked_msisdn, msisdn_from_digits
from eir.errors import Unavailable
from eir.ops import cast, console
from eir.ops.cli_load import load_into_depot, rate_line
from eir.ops.config import Config, load_config
from eir.ops.keeper import Keeper
from eir.ops.sample import write_sample
from eir.store.depot import Depot

_WIDE = 100
_COMPILE_SECONDS = 120.0


def run_demo(*, devices: int, folder: Path, once: bool) -> bool:
    """Set up, serve, ask, and keep serving until Ctrl-C (``once``: stop after the questions).

    Whether every answer was the one that the decision table gives.
    """
    folder = folder.absolute()
    settings = _configured(folder)
    _fill_depot(settings, folder, devices)
    return asyncio.run(_serve(settings, folder, once=once))


def _configured(folder: Path) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "eir.toml"
    if not path.exists():
        plmns = json.dumps(list(cast.HOME_PLMNS))
        path.write_text(f'[node]\ndepot = "depot"\n\n[policy]\nhome_plmns = {plmns}\n')
    settings = load_config(path)
    return replace(settings, node=replace(settings.node, log_level="warning"))


def _fill_depot(settings: Config, folder: Path, devices: int) -> None:
    """Make and load the sample, unless the depot holds one of this size already."""
    made = folder / "lists" / f".{devices}-devices-loaded"
    if made.exists() and all(Depot(settings.node.depot).kept(f) for f in ("registry", "operator")):
        return
    with console.progress_bar(f"drawing {devices:,} devices") as (bar, task):
        facts = write_sample(
            folder / "lists",
            devices,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for manifest in (facts.registry_manifest, facts.operator_manifest):
        with console.progress_bar("loading") as (bar, task):
            outcome = load_into_depot(settings, manifest, bar, task)
        console.out.print(f"{manifest.name}: {rate_line(outcome)}")
    made.touch()


async def _serve(settings: Config, folder: Path, *, once: bool) -> bool:
    keeper = Keeper(settings, config_path=settings.path)
    opened = asyncio.Event()
    console.out.print("starting the node; its first start compiles, which takes half a minute")
    serving = asyncio.create_task(keeper.run(opened=lambda _: opened.set()))
    waiting = asyncio.create_task(opened.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not opened.is_set():
        await serving
    good = await asyncio.to_thread(_ask, keeper.addresses[0])
    if once:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        return good
    _say_next(folder / "eir.toml")
    await serving
    console.out.print("stopped")
    return good


def _ask(address: str) -> bool:
    """One question for each row over the gRPC door; whether every reason is the expected one."""
    headings = ("", "device", "subscriber", "status", "reason", "data", "µs")
    rows = console.table(*headings, narrow=console.out.width < _WIDE)
    unexpected = []
    with NodeClient(address) as node:
        _warm_up(node)
        for question in cast.questions():
            begun = time.perf_counter()
            reply = node.check(question.imei, question.msisdn, question.imsi)
            took = (time.perf_counter() - begun) * 1e6
            rows.add_row(
                str(question.row),
                _device(question),
                _subscriber(question),
                Status(reply.status).name,
                reply.reason_name,
                f"{reply.registry_serial}/{reply.operator_serial}",
                f"{took:.0f}",
            )
            if reply.reason_name != question.reason:
                unexpected.append(f"row {question.row}: expected {question.reason}")
    console.out.print(rows)
    console.out.print(
        "data: serials of the registry's and the operator's data; µs: the whole call, by gRPC"
    )
    for line in unexpected:
        console.out.print(line)
    return not unexpected


def _device(question: cast.Question) -> str:
    key = key_from_digits(question.imei)
    return masked(key) if key else question.imei


def _subscriber(question: cast.Question) -> str:
    if question.msisdn:
        return masked_msisdn(msisdn_from_digits(question.msisdn))
    return masked_imsi(imsi_from_digits(question.imsi)) if question.imsi else "nobody known"


def _warm_up(node: NodeClient) -> None:
    """The first answer waits for the compiler: not what is to be shown."""
    question = cast.questions()[0]
    waited_until = time.monotonic() + _COMPILE_SECONDS
    while time.monotonic() < waited_until:
        with contextlib.suppress(Unavailable):
            node.check(question.imei, question.msisdn, question.imsi)
            return


def _say_next(config: Path) -> None:
    question = cast.questions()[8]
    here = Path.cwd()
    shown = config.relative_to(here) if config.is_relative_to(here) else config
    program = Path(sys.argv[0]).absolute()
    eir = program.relative_to(here) if program.is_relative_to(here) else program.name
    console.out.print(
        f"""
The node answers until Ctrl-C. In another terminal, say:
  export EIR_CONFIG={shown}
  {eir} check {question.imei} --imsi {question.imsi}
  {eir} explain {question.imei} --imsi {question.imsi}
  {eir} status
  {eir} --help
docs/operators.md goes on from here; docs/integrators.md is for who asks the node.""",
        markup=False,
        soft_wrap=True,
    )
