"""The first minute with the engine: a sample registry, a node, one question for each row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

from eir.client.node import NodeClient
from eir.core.imei import key_from_digits, masked
from eir.core.policy import Status
from eir.core.subscriber import imsi_from_digits, masked_imsi, masked_msisdn, msisdn_from_digits
from eir.errors import Unavailable
from eir.ops import cast, console
from eir.ops.cli_load import load_into_depot
from eir.ops.config import Config, load_config
from eir.ops.keeper import Keeper
from eir.ops.sample import write_sample
from eir.store.depot import Depot


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
        rows = sum(file.rows for file in outcome.files)
        console.out.print(
            f"{manifest.name}: {rows:,} rows in {outcome.seconds:.1f} s,"
            f" {rows / max(outcome.seconds, 0.001):,.0f} rows/s,"
            f" {sum(file.rejected for file in outcome.files):,} rejects,"
            f" {outcome.facts.size:,} bytes"
        )
    made.touch()


async def _serve(settings: Config, folder: Path, *, once: bool) -> bool:
    keeper = Keeper(settings, config_path=settings.path)
    opened = asyncio.Event()
    console.out.print("starting the node (a first start compiles the kernel: about half a minute)")
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
    rows = console.table("row", "device", "number", "IMSI", "status", "reason", "serials", "µs", "")
    good = True
    with NodeClient(address) as node:
        _warm_up(node)
        for question in cast.questions():
            begun = time.perf_counter()
            reply = node.check(question.imei, question.msisdn, question.imsi)
            took = (time.perf_counter() - begun) * 1e6
            key = key_from_digits(question.imei)
            right = reply.reason_name == question.reason
            good = good and right
            rows.add_row(
                str(question.row),
                masked(key) if key else question.imei,
                masked_msisdn(msisdn_from_digits(question.msisdn)),
                masked_imsi(imsi_from_digits(question.imsi)),
                Status(reply.status).name,
                reply.reason_name,
                f"{reply.registry_serial}/{reply.operator_serial}",
                f"{took:,.0f}",
                "" if right else f"expected {question.reason}",
            )
    console.out.print(rows)
    return good


def _warm_up(node: NodeClient) -> None:
    """The first call opens the connection: not what is to be shown."""
    with contextlib.suppress(Unavailable):
        node.check(cast.questions()[0].imei, "", "")


def _say_next(config: Path) -> None:
    question = cast.questions()[8]
    shown = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    console.out.print(
        f"""
The node answers until Ctrl-C. In another terminal, with .venv/bin before each:
  eir check {question.imei} {question.msisdn} -c {shown}
  eir explain {question.imei} {question.msisdn} -c {shown}
  eir status -c {shown}
and `eir --help`; docs/operators.md and docs/integrators.md go on from here.""",
        markup=False,
    )
