"""The one configuration file: found, read, and turned into the rooms' own values.

Holds what is true of several settings together; ``sections`` declares each by itself. Promises
that an unknown or wrong setting is refused with file, line and nearest known key, and that all
faults are told at once. Never opens anything but the configuration file; of the certificates that
it names it only asks whether they can be read.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from eir import limits
from eir.core.generation import REGISTRY
from eir.core.policy import BlackList, Policy, Status
from eir.core.subscriber import Numbering
from eir.doors.n5g_settings import N5gSettings
from eir.doors.s13_settings import S13Settings
from eir.errors import Refused
from eir.ops.compaction import CompactionLimits
from eir.ops.settings import door_config, forms, setting
from eir.ops.settings.door_sections import N5gSection, S13Section
from eir.ops.settings.follow import Follow, follow_of, guard_of, operator_follow_of
from eir.ops.settings.outbox_config import OutboxSettings, outbox_of
from eir.ops.settings.sections import (
    AdminSection,
    BlackSection,
    GraceSection,
    GrpcSection,
    LoadSection,
    MetricsSection,
    NodeSection,
    NumberingSection,
    PolicySection,
    Settings,
    WorkersSection,
)
from eir.ops.settings.setting import Source, Spot
from eir.ops.settings.watch_sections import BreakerSection
from eir.serve.breaker import BreakerLimits
from eir.serve.guard import GuardLimits

SEARCHED: Final = (Path("eir.toml"), Path("/etc/eir/eir.toml"))
"""Where a configuration is looked for when neither an argument nor $EIR_CONFIG names one."""

_MAX_UNIX_PATH_BYTES = 107
_TLS_FILES = ("tls_cert", "tls_key", "client_ca")


@dataclass(frozen=True, slots=True)
class Config:
    """What a file comes to: every setting in force, paths absolute, in the rooms' own values.

    ``path`` is None when no file was read and everything is at its default; ``s13`` and ``n5g`` are
    None where the door is shut.
    """

    path: Path | None
    node: NodeSection
    workers: WorkersSection
    metrics: MetricsSection
    grpc: GrpcSection
    s13: S13Settings | None
    n5g: N5gSettings | None
    admin: AdminSection
    policy: Policy
    grace: GraceSection
    numbering: Numbering
    load: LoadSection
    feed: Follow | None
    operator_feed: Follow
    guard: GuardLimits
    compaction: CompactionLimits
    breaker: BreakerLimits
    sightings: OutboxSettings | None


Door = TypeVar("Door", S13Section, N5gSection)
Tls = TypeVar("Tls", GrpcSection, AdminSection, S13Section, N5gSection)


def find_config(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file that $EIR_CONFIG names, else the first of SEARCHED that exists, else None."""
    if named := environ.get("EIR_CONFIG"):
        return Path(named)
    return next((path for path in SEARCHED if path.exists()), None)


def load_config(path: Path | None = None) -> Config:
    """The configuration of this file, else of the one that is found, else the defaults.

    Raises Refused, as ``config_check`` does.
    """
    chosen = path or find_config()
    return config_check(chosen) if chosen else read_config("", name="defaults", folder=Path.cwd())


def config_check(path: Path) -> Config:
    """The configuration of a file, wholly checked; certificates must be there and readable.

    Raises Refused: ``config-missing`` if it can't be read, ``config-syntax`` if it is no TOML;
    else the code of the one fault, or ``config-faults`` with all of them if there are several.
    """
    text = _text_of(path)
    readable = partial(os.access, mode=os.R_OK)
    config = read_config(text, name=str(path), folder=path.absolute().parent, readable=readable)
    return replace(config, path=path)


def read_config(
    text: str, *, name: str, folder: Path, readable: Callable[[Path], bool] = lambda _: True
) -> Config:
    """What a TOML text says; its paths start at ``folder``. Raises as ``config_check`` does."""
    source = Source(name, setting.line_numbers(text), tuple(setting.known_keys(Settings())), [])
    root = Spot(source)
    settings = setting.read_section(Settings(), _parsed(text, name), root)
    node = replace(settings.node, depot=folder / settings.node.depot)
    s13 = _tcp_door(settings.s13, folder, root.at("s13"))
    n5g = _tcp_door(settings.n5g, folder, root.at("n5g"))
    config = Config(
        path=None,
        node=node,
        workers=settings.workers,
        metrics=settings.metrics,
        grpc=_grpc(settings.grpc, folder, root.at("grpc")),
        s13=door_config.s13_of(s13, root.at("s13")),
        n5g=door_config.n5g_of(n5g, folder, root.at("n5g")),
        admin=_admin(settings.admin, folder, node.depot, root.at("admin")),
        policy=_policy(settings.policy, root.at("policy")),
        grace=settings.grace,
        numbering=_numbering(settings.numbering, root.at("numbering")),
        load=settings.load,
        feed=follow_of(settings.feed, REGISTRY, folder, root.at("feed")),
        operator_feed=operator_follow_of(settings.operator_feed, folder, node.depot, root),
        guard=guard_of(settings.guard),
        compaction=CompactionLimits(**asdict(settings.compaction)),
        breaker=_breaker(settings.breaker),
        sightings=outbox_of(settings.sightings, folder, root.at("sightings")),
    )
    named = {"grpc": config.grpc, "s13": s13, "n5g": n5g, "admin": config.admin}
    _refuse_unreadable(named, root, readable)
    _raise_all(source)
    return config


def _refuse_unreadable(
    named: Mapping[str, object], root: Spot, readable: Callable[[Path], bool]
) -> None:
    """Tell the spot of every TLS file, of sections by name, that can't be read."""
    for section, files in named.items():
        for key in _TLS_FILES:
            path = getattr(files, key)
            if path is not None and not readable(path):
                fault = Refused("config-file", f"{path} is not there or can't be read")
                root.at(section, key).refuse(fault)


def _raise_all(source: Source) -> None:
    faults = source.faults
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise Refused("config-faults", f"{len(faults)} faults:{listed}\n", where=source.name)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(limits.MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise Refused(
            "config-missing", f"can't read it: {error.strerror}", where=str(path)
        ) from error
    if len(raw) > limits.MAX_CONFIG_BYTES:
        raise Refused(
            "config-syntax", f"longer than {limits.MAX_CONFIG_BYTES} bytes", where=str(path)
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise Refused("config-syntax", "not UTF-8", where=f"{path}:{line}") from error


def _parsed(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise Refused("config-syntax", "nested too deeply", where=name) from error
    except ValueError as error:
        line = re.search(r"at line ([0-9]+)", str(error))
        raise Refused(
            "config-syntax", str(error), where=f"{name}:{line[1]}" if line else name
        ) from error


def _breaker(section: BreakerSection) -> BreakerLimits:
    return BreakerLimits(
        factor=section.factor, least=section.least_refusals, learn_minutes=section.learn_minutes
    )


def _grpc(grpc: GrpcSection, folder: Path, spot: Spot) -> GrpcSection:
    _tls(grpc.tls_cert, grpc.tls_key, grpc.client_ca, spot)
    if grpc.engine == "native" and grpc.tls_cert is not None:
        words = "native speaks no TLS: put a proxy before it that does, or take grpcio"
        spot.at("engine").refuse(Refused("config-conflict", words))
    exposed = [address for address in grpc.listen if not _is_local(address)]
    if exposed and grpc.tls_cert is None and grpc.plaintext == "refused":
        fault = Refused(
            "config-plaintext",
            f"{exposed[0]} can be reached from other machines: give tls_cert and tls_key, or"
            ' listen on loopback or a Unix socket, or say plaintext = "accepted"',
        )
        spot.at("listen").refuse(fault)
    listen = tuple(_anchored(address, folder, spot.at("listen")) for address in grpc.listen)
    return _with_absolute_files(replace(grpc, listen=listen), folder)


def _tcp_door(door: Door, folder: Path, spot: Spot) -> Door:
    """The section with absolute paths, once what holds for TLS and plaintext is checked."""
    _tls(door.tls_cert, door.tls_key, door.client_ca, spot)
    exposed = bool(door.listen) and not forms.is_local(forms.split_address(door.listen)[0])
    if exposed and door.tls_cert is None and door.plaintext == "refused":
        fault = Refused(
            "config-plaintext",
            f"{door.listen} can be reached from other machines: give tls_cert and tls_key, or"
            ' listen on loopback, or say plaintext = "accepted"',
        )
        spot.at("listen").refuse(fault)
    return _with_absolute_files(door, folder)


def _admin(admin: AdminSection, folder: Path, depot: Path, spot: Spot) -> AdminSection:
    files = (admin.tls_cert, admin.tls_key, admin.client_ca)
    if admin.remote_listen.startswith("unix:"):
        spot.at("remote_listen").refuse(
            Refused("config-range", "a Unix socket is named by `socket`")
        )
    elif admin.remote_listen and None in files:
        fault = Refused(
            "config-conflict", "needs tls_cert, tls_key and client_ca: mTLS is the only way in"
        )
        spot.at("remote_listen").refuse(fault)
    elif not admin.remote_listen and any(files):
        spot.refuse(Refused("config-conflict", "certificates without remote_listen do nothing"))
    socket = folder / admin.socket if admin.socket else depot / "admin.sock"
    _fits_unix(socket, spot.at("socket"))
    return _with_absolute_files(replace(admin, socket=socket), folder)


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None, spot: Spot) -> None:
    if (cert is None) != (key is None):
        name = "tls_key" if cert is None else "tls_cert"
        other = "tls_cert" if cert is None else "tls_key"
        spot.at(name).refuse(Refused("config-conflict", f"needs {other} beside it"))
    elif client_ca is not None and cert is None:
        spot.at("client_ca").refuse(
            Refused("config-conflict", "needs tls_cert and tls_key: mTLS is TLS")
        )


def _policy(policy: PolicySection, spot: Spot) -> Policy:
    black = {
        reason: _black(entry, spot.at("black", reason)) for reason, entry in policy.black.items()
    }
    try:
        return Policy(
            mode=policy.mode,
            status={reason: Status[word] for reason, word in policy.status.items()},
            black=black,
            black_order=policy.black_order,
            home_plmns=policy.home_plmns,
            enforced_plmns=policy.enforced_plmns,
        )
    except Refused as fault:
        spot.refuse(fault)
        return Policy()


def _black(black: BlackSection, spot: Spot) -> BlackList:
    if black.active_until and black.active_until <= black.active_from:
        spot.at("active_until").refuse(Refused("config-conflict", "ends before active_from"))
    return BlackList(
        status=Status[black.status],
        binding_overrides=black.binding_overrides,
        legacy_overrides=black.legacy_overrides,
        bound_overrides=black.bound_overrides,
        active_from=black.active_from,
        active_until=black.active_until,
    )


def _numbering(numbering: NumberingSection, spot: Spot) -> Numbering:
    longest = limits.MAX_MSISDN_DIGITS - len(numbering.country_code)
    if numbering.min_national_digits > numbering.max_national_digits:
        spot.at("min_national_digits").refuse(
            Refused("config-conflict", "above max_national_digits")
        )
    if numbering.max_national_digits > longest:
        fault = Refused("config-conflict", f"at most {longest} beside this country code (E.164)")
        spot.at("max_national_digits").refuse(fault)
    trunk, international = numbering.trunk_prefix, numbering.international_prefix
    if international and trunk.startswith(international):
        fault = Refused("config-conflict", "begins with international_prefix, which is tried first")
        spot.at("trunk_prefix").refuse(fault)
    return Numbering(**asdict(numbering))


def _is_local(address: str) -> bool:
    return address.startswith("unix:") or forms.is_local(forms.split_address(address)[0])


def _anchored(address: str, folder: Path, spot: Spot) -> str:
    if not address.startswith("unix:"):
        return address
    path = folder / address.removeprefix("unix:")
    _fits_unix(path, spot)
    return f"unix:{path}"


def _fits_unix(path: Path, spot: Spot) -> None:
    if len(os.fsencode(path)) > _MAX_UNIX_PATH_BYTES:
        limit = f"a Unix socket's path has at most {_MAX_UNIX_PATH_BYTES} bytes: {path}"
        spot.refuse(Refused("config-range", limit))


def _with_absolute_files(section: Tls, folder: Path) -> Tls:
    return replace(
        section,
        tls_cert=folder / section.tls_cert if section.tls_cert else None,
        tls_key=folder / section.tls_key if section.tls_key else None,
        client_ca=folder / section.client_ca if section.client_ca else None,
    )
