"""What a node says of what it serves: in status and alarms, to a reload, and to its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from eir.core.explanation import origin_of
from eir.core.generation import Generation
from eir.core.policy import SHADOW
from eir.doors.grpc_admin import AdminSettings, NodeHappening, NodeOverlay, ServedGeneration
from eir.ops.chronicle import happenings
from eir.ops.compaction import CompactionState
from eir.ops.settings.config import Config
from eir.serve.handover import HandedFeed
from eir.serve.holder import Serving
from eir.store.depot import Opened

_HAPPENINGS: Final = 5


def generations_of(serving: Serving) -> list[Generation]:
    """What serves of each feed."""
    feeds = (serving.tables.registry, serving.tables.operator)
    return [feed for feed in feeds if feed is not None]


def served_status(generation: Generation) -> ServedGeneration:
    """One of them, as status tells of it."""
    items = {name: section.items for name, section in generation.sections.items()}
    return ServedGeneration(origin=origin_of(generation), made_at=generation.made_at, items=items)


def changes_between(
    before: Serving | None, after: Serving | None, old: Config, new: Config
) -> list[str]:
    """What a reload has changed, one line each."""
    served = {g.feed: g for g in generations_of(before)} if before else {}
    changes = []
    for generation in generations_of(after) if after else ():
        known = served.get(generation.feed)
        if known is not generation:
            serial = f"{generation.registry_id} serial {generation.serial}"
            changes.append(f"{generation.feed}: {serial} serves, digest {generation.digest}")
    if old.policy != new.policy:
        names = [f.name for f in fields(new.policy)]
        differ = [n for n in names if getattr(old.policy, n) != getattr(new.policy, n)]
        changes.append(f"policy: {', '.join(differ)} changed")
    if old.grace != new.grace:
        changes.append(f"grace: grace_lag is {new.grace.grace_lag} s")
    return changes


def alarms_of(serving: Serving | None, now: int) -> list[str]:
    """What a person has to look at in what serves, one line each; ``now`` in Unix s."""
    if serving is None:
        return ["no generation serves: every check is answered UNAVAILABLE"]
    alarms = []
    if serving.tables.policy.mode == SHADOW:
        alarms.append("shadow mode: nobody is refused")
    behind = now - serving.data_time - serving.grace_lag
    if behind > 0:
        alarms.append(
            f"grace time stands still since {behind} s: the registry data is older than"
            " grace_lag, so no deadline passes and no hold ends"
        )
    return alarms


def happenings_of(depot: Path) -> list[NodeHappening]:
    """What befell the node, and what people did: the last few, newest first."""
    return [NodeHappening(**asdict(each)) for each in happenings(depot, "", most=_HAPPENINGS)]


def overlays_of(states: Mapping[str, CompactionState]) -> list[NodeOverlay]:
    """What deltas have brought since each base, where they have brought anything."""
    return [
        NodeOverlay(
            feed=feed,
            touched_keys=state.touched_keys,
            due_at_keys=state.due_at_keys,
            deltas=state.deltas,
            compacting=state.running,
            last=state.last.line() if state.last else "",
        )
        for feed, state in states.items()
        if state.deltas or state.last
    ]


def handed(opened: Opened) -> HandedFeed:
    """The feed as workers are told of it."""
    origin = opened.generation
    files = tuple(file.fileno() for file in (opened.file, opened.laid, opened.overlays))
    return HandedFeed(origin.feed, origin.session, origin.serial, origin.digest, files)


def admin_settings(config: Config) -> AdminSettings:
    """The admin door, as it is configured."""
    section = config.admin
    return AdminSettings(
        socket=section.socket,
        socket_mode=int(section.mode, 8),
        remote_listen=section.remote_listen,
        tls_cert=section.tls_cert,
        tls_key=section.tls_key,
        client_ca=section.client_ca,
    )
