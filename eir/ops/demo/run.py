"""The first minute with the engine: a registry and its feed, a node that follows it, questions.

lists → publish → feed ──every second──> node → one question for each row
          ^                                 → what befalls a phone, delta by delta
          └── a phone is imported, …
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from eir.client.node import NodeClient
from eir.core.generation import OPERATOR
from eir.core.imei import key_from_digits, masked
from eir.core.policy import Status
from eir.core.subscriber import imsi_from_digits, masked_imsi, masked_msisdn, msisdn_from_digits
from eir.errors import Unavailable
from eir.ops import console
from eir.ops.cli.load import load_into_depot, rate_line
from eir.ops.demo import cast
from eir.ops.demo.registry import DemoRegistry, demo_registry, phone_after
from eir.ops.demo.sample import write_sample
from eir.ops.keeper import Keeper
from eir.ops.keeping import depot_of
from eir.ops.nursery import was_proven
from eir.ops.settings.config import Config, load_config

_WIDE = 100
_COMPILE_SECONDS = 120.0
_FOLLOW_SECONDS = 60.0
_LOOK_S = 0.05


def run_demo(*, devices: int, folder: Path, once: bool) -> bool:
    """Set up, publish, follow, ask, and keep serving until Ctrl-C (``once``: stop after asking).

    Whether every answer was the one that the decision table gives.
    """
    folder = folder.absolute()
    registry = demo_registry(folder)
    settings = _configured(folder, registry.desk.root_key)
    _fill(settings, folder, registry, devices)
    return asyncio.run(_serve(settings, folder, registry, once=once))


def _configured(folder: Path, root_key: str) -> Config:
    path = folder / "eir.toml"
    if not path.exists():
        plmns = json.dumps(list(cast.HOME_PLMNS))
        path.write_text(f'[node]\ndepot = "depot"\n\n[policy]\nhome_plmns = {plmns}\n')
    if load_config(path).feed is None:
        with path.open("a") as file:
            file.write(f'\n[feed]\nurl = "feed"\nroot_key = "{root_key}"\n')
            file.write('registry = "local"\nevery = 1\n')
    settings = load_config(path)
    return replace(settings, node=replace(settings.node, log_level="warning"))


def _fill(settings: Config, folder: Path, registry: DemoRegistry, devices: int) -> None:
    """Publish a sample of this size and load the operator's lists, unless that is done already."""
    made, depot = folder / "lists" / ".devices", depot_of(settings.node)
    found = made.read_text() if made.exists() else ""
    if found == str(devices) and registry.published and depot.kept(OPERATOR):
        registry.sign_anew()
        return
    with depot.held_by_keeper():
        _begin_anew(folder)
    with console.progress_bar(f"drawing {devices:,} devices") as (bar, task):
        facts = write_sample(
            folder / "lists",
            devices,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    with console.progress_bar("loading") as (bar, task):
        outcome = load_into_depot(settings, facts.operator_manifest, bar, task)
    console.out.print(f"{facts.operator_manifest.name}: {rate_line(outcome)}")
    begun = time.monotonic()
    with console.progress_bar("publishing") as (bar, task):
        published = registry.publish_lists(facts.registry_manifest, settings, bar, task)
    took = time.monotonic() - begun
    what = f"serial {published.head.serial} published, {published.size:,} bytes, in {took:.1f} s"
    console.out.print(f"{facts.registry_manifest.name}: {what}")
    made.write_text(str(devices))


def _begin_anew(folder: Path) -> None:
    """Take away what another sample left; the keys and the configuration stay."""
    (folder / "lists" / ".devices").unlink(missing_ok=True)
    for name in ("depot", "feed", "desk"):
        shutil.rmtree(folder / name, ignore_errors=True)
    demo_registry(folder)


async def _serve(settings: Config, folder: Path, registry: DemoRegistry, *, once: bool) -> bool:
    keeper = Keeper(settings, config_path=settings.path)
    proven = was_proven(noting=settings.sightings is not None)
    first = "" if proven else ": it is compiled first, which takes half a minute"
    console.out.print(f"starting the node{first}")
    serving = asyncio.create_task(keeper.run())
    signing = asyncio.create_task(registry.keep_signing())
    asking = asyncio.create_task(_show(keeper, registry))
    try:
        await asyncio.wait((serving, asking), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            return False
        good = asking.result()
        if not once:
            _say_next(folder)
            await serving
            console.out.print("stopped")
        return good
    finally:
        for task in (signing, asking, serving):
            task.cancel()
        await asyncio.gather(signing, asking, serving, return_exceptions=True)


async def _show(keeper: Keeper, registry: DemoRegistry) -> bool:
    """Ask, once the feed's snapshot serves; whether every answer was as expected."""
    while not (keeper.addresses and keeper.status().ready):
        await asyncio.sleep(_LOOK_S)
    good = await asyncio.to_thread(_ask, keeper.addresses[0])
    return await asyncio.to_thread(_tell, keeper.addresses[0], registry) and good


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


def _tell(address: str, registry: DemoRegistry) -> bool:
    """Publish what befalls a phone, and ask for it all the while; whether the answers followed."""
    begun = registry.sign_anew().head.serial
    phone = phone_after(begun)
    console.out.print(
        f"\nThe registry publishes what befalls {masked(phone.key)}, and the node is asked on:"
    )
    good, asked, size = True, 0, 0
    with NodeClient(address) as node:
        before = node.check(phone.imei, phone.msisdn, "")
        for event in phone.life():
            published = registry.tell(event)
            serial, since = published.head.serial, time.monotonic()
            while True:
                after = node.check(phone.imei, phone.msisdn, "")
                asked += 1
                if after.registry_serial >= serial:
                    break
                if time.monotonic() - since > _FOLLOW_SECONDS:
                    raise Unavailable(f"serial {serial} never came: see `eir sync status`")
            took = time.monotonic() - since
            size += published.size
            console.out.print(
                f"serial {serial:<4} {event.name:<10}"
                f" {before.reason_name:>14} {Status(before.status).name:<11} →"
                f" {after.reason_name:>14} {Status(after.status).name:<11} after {took:.2f} s"
            )
            good &= after.reason_name == event.reason
            before = after
    console.out.print(
        f"{size:,} bytes of deltas in all; {asked:,} checks were answered while they came"
    )
    return good


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


def _say_next(folder: Path) -> None:
    question = cast.questions()[8]
    config, desk, lists = (_shown(folder / name) for name in ("eir.toml", "desk", "lists"))
    eir = _shown(Path(sys.argv[0]).absolute(), otherwise=Path(sys.argv[0]).name)
    console.out.print(
        f"""
The node answers until Ctrl-C. In another terminal, say:
  export EIR_CONFIG={config}
  {eir} check {question.imei} --imsi {question.imsi}
  {eir} explain {question.imei} --imsi {question.imsi}
  {eir} status
  {eir} sync status
  {eir} feed log {desk}
  {eir} --help
Change a list in {lists}, and publish what changed:
  {eir} feed publish {desk} --from {lists}/registry.toml
docs/operators.md goes on from here; docs/integrators.md is for who asks the node.""",
        markup=False,
        soft_wrap=True,
    )


def _shown(path: Path, otherwise: str = "") -> str:
    """A path as it is typed from here; ``otherwise``: where it lies elsewhere."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else otherwise or str(path)
