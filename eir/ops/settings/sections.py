"""Every setting there is, in one place: its default, bounds and meaning.

Holds declarations only: docs/settings.md and the sample file are made from them, and ``config``
reads files by them. Promises that the defaults are a whole configuration for a local node.
Defines no setting that nothing uses.
"""

# ruff: noqa: RUF009 - the calls in these classes are field specifiers, and declare a field each

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from eir import limits
from eir.core.policy import DEFAULT_STATUS, BlackList, Policy, Status
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.ops.settings import forms, setting
from eir.ops.settings.compaction_section import CompactionSection
from eir.ops.settings.door_sections import N5gSection, S13Section
from eir.ops.settings.setting import UnixSeconds
from eir.ops.settings.watch_sections import BreakerSection, SightingsSection

_STATUSES = tuple(status.name for status in Status)
_POLICY = Policy()
_NUMBERING = Numbering()


def _reason_name(value: str) -> str:
    if not re.fullmatch(rf"[a-z0-9-]{{1,{limits.MAX_REASON_NAME_CHARS}}}", value):
        raise Refused(
            "config-range",
            f"expected a reason name of up to {limits.MAX_REASON_NAME_CHARS} of a–z, 0–9 and -,"
            f" got {value!r}",
        )
    return value


def _country_code(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,2}", value):
        raise Refused("config-range", f"expected 1 to 3 digits that begin with 1–9, got {value!r}")
    return value


def _dialling_prefix(value: str) -> str:
    if not re.fullmatch(r"[0-9]{0,5}", value):
        raise Refused("config-range", f"expected at most 5 digits, got {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class NodeSection:
    """Where this node keeps its files, and how it speaks."""

    depot: Path = setting.path(
        ".eir",
        "Folder that survives a restart: snapshots and state. Made with mode 0700 if it is absent.",
    )
    timezone: str = setting.text(
        "Asia/Tehran",
        "The time zone of dates that people type: a date is the end of that day there.",
        form="name of a zone",
        check=forms.timezone,
    )
    keep_days: int = setting.whole(
        30,
        "How far back, in the feed's own time, serials can be built again: `eir explain --as-of`,"
        " `eir rollback`.",
        low=0,
        high=3_650,
        unit="days",
    )
    log_level: str = setting.choice(
        "info",
        "The least important line that is logged.",
        words=("debug", "info", "warning", "error"),
    )
    json_logs: bool = setting.switch(
        False, "Log one JSON object a line instead of text, for machines that collect logs."
    )


@dataclass(frozen=True, slots=True)
class WorkersSection:
    """The processes that answer, on the same ports, from one shared copy of the data."""

    count: int = setting.whole(
        0,
        "How many there are; 0 is one for each processor. Each takes some 60 MB for itself.",
        low=0,
        high=limits.MAX_WORKERS,
        unit="processes",
    )
    stale_after_seconds: int = setting.whole(
        300,
        "Workers whose keeper has died go on answering; after this long they mark their answers"
        " stale.",
        low=1,
        high=86_400,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True)
class MetricsSection:
    """Figures for Prometheus, at `/metrics`; [metrics.md](metrics.md) explains each."""

    listen: str = setting.text(
        "",
        "Address that they are read at, in clear and by whoever reaches it; empty is none.",
        form='"host:port" or empty',
        check=forms.tcp_address_or_none,
    )


@dataclass(frozen=True, slots=True)
class GrpcSection:
    """The door for the core network's checks."""

    listen: tuple[str, ...] = setting.texts(
        ("127.0.0.1:50061",),
        "Addresses that the door listens on; port 0 takes any free port; an empty array shuts the"
        " door.",
        form=forms.ADDRESS_FORM,
        check=forms.address,
        most=16,
    )
    engine: str = setting.choice(
        "grpcio",
        "What carries the calls: `grpcio`, or `native`, which answers several times as many on the"
        " same cores, needs the extra `native`, speaks no TLS and wants a proxy before it where"
        " clients are not trusted.",
        words=("grpcio", "native"),
    )
    plaintext: str = setting.choice(
        "refused",
        "Without TLS, only loopback and Unix sockets may be listened on, unless this is `accepted`:"
        " identities of subscribers then cross the network readable by all.",
        words=("refused", "accepted"),
    )
    tls_cert: Path | None = setting.path_or_none(
        "PEM file with the server's certificate chain; given, every TCP address speaks TLS."
    )
    tls_key: Path | None = setting.path_or_none("PEM file with the key of `tls_cert`.")
    client_ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that sign client certificates; given, clients must show"
        " one (mTLS)."
    )
    max_checks_per_message: int = setting.whole(
        limits.MAX_CHECKS_PER_MESSAGE,
        "The longest batch in one message; a longer one is answered with INVALID_ARGUMENT.",
        low=1,
        high=limits.MAX_CHECKS_PER_MESSAGE,
        unit="checks",
    )
    max_streams: int = setting.whole(
        limits.MAX_GRPC_STREAMS,
        "`CheckStream` calls that may be open at a time; one more is answered RESOURCE_EXHAUSTED.",
        low=1,
        high=limits.MAX_GRPC_STREAMS,
        unit="streams",
    )
    calls_per_connection: int = setting.whole(
        limits.NATIVE_CALLS_PER_CONNECTION,
        "With `native`: calls that one connection may have open; the rest its client holds back."
        " Times the connections, over the answers a second, it is how long a call waits past"
        " capacity.",
        low=4,
        high=limits.MAX_NATIVE_CALLS_PER_CONNECTION,
        unit="calls",
    )
    drain_seconds: int = setting.whole(
        10,
        "How long calls that have begun may take to end when the node stops.",
        low=0,
        high=600,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True)
class AdminSection:
    """The door for the operator's own commands."""

    socket: Path | None = setting.path_or_none(
        "Unix socket of the admin calls; empty is `admin.sock` in the depot."
    )
    mode: str = setting.choice(
        "0660",
        "File mode of the socket: its owner alone, or its group too, may change what is decided.",
        words=("0660", "0600"),
    )
    remote_listen: str = setting.text(
        "",
        "Address for admin calls from other machines; empty is none. Needs the three files below.",
        form='"host:port" or empty',
        check=forms.address_or_none,
    )
    tls_cert: Path | None = setting.path_or_none(
        "PEM file with the certificate chain of the remote address."
    )
    tls_key: Path | None = setting.path_or_none("PEM file with the key of `tls_cert`.")
    client_ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that sign administrators' certificates; the name in the"
        " certificate is the “who” in the record."
    )


@dataclass(frozen=True, slots=True)
class BlackSection:
    """What standing in one black list means."""

    status: str = setting.choice(
        Status.BLACKLISTED.name, "The verdict for a device in this list (row 6).", words=_STATUSES
    )
    binding_overrides: bool = setting.switch(
        False,
        "For clones: a bound pair keeps service, as `bound-exception` (rows 4 and 5), if every"
        " black list that the device stands in says so.",
    )
    legacy_overrides: bool = setting.switch(
        False, "A device in `legacy` is not refused by this list."
    )
    bound_overrides: bool = setting.switch(False, "A bound pair is not refused by this list.")
    active_from: UnixSeconds = setting.instant(
        "The list counts from this moment on; 0: from the first."
    )
    active_until: UnixSeconds = setting.instant("The list counts until this moment; 0: for ever.")


def _black(black: BlackList) -> BlackSection:
    return BlackSection(**{**asdict(black), "status": black.status.name})


@dataclass(frozen=True, slots=True)
class PolicySection:
    """What the node makes of the facts; the rows are those of the decision table."""

    mode: str = setting.choice(
        _POLICY.mode,
        "`shadow` answers GREYLISTED wherever BLACKLISTED or UNKNOWN was decided, and shows the"
        " decided status beside it: nobody is cut.",
        words=("enforce", "shadow"),
    )
    black_order: tuple[str, ...] = setting.texts(
        _POLICY.black_order,
        "Which reason is named when a device stands in several black lists: the first of these;"
        " lists that are not named here come after them, by name.",
        form="reason names",
        check=_reason_name,
        most=limits.MAX_BLACK_REASONS,
    )
    home_plmns: tuple[str, ...] = setting.texts(
        _POLICY.home_plmns,
        "PLMNs whose subscribers are ours. With none set, nobody counts as a roamer (row 7).",
        form="PLMNs of 5 or 6 digits",
        check=forms.plmn,
        most=limits.MAX_PLMNS,
    )
    enforced_plmns: tuple[str, ...] = setting.texts(
        _POLICY.enforced_plmns,
        "Further PLMNs whose subscribers are decided on like our own.",
        form="PLMNs of 5 or 6 digits",
        check=forms.plmn,
        most=limits.MAX_PLMNS,
    )
    status: Mapping[str, str] = setting.words_by_name(
        "The status that goes with each reason of the decision table.",
        defaults={reason: status.name for reason, status in DEFAULT_STATUS.items()},
        words=_STATUSES,
    )
    black: Mapping[str, BlackSection] = setting.sections_by_name(
        BlackSection(),
        "One table for each black list whose meaning differs from these defaults.",
        entries={name: _black(black) for name, black in _POLICY.black.items()},
        check=_reason_name,
        most=limits.MAX_BLACK_REASONS,
    )


@dataclass(frozen=True, slots=True)
class GraceSection:
    """The clock by which deadlines pass."""

    grace_lag: int = setting.whole(
        3_600,
        "How far grace time may run ahead of the newest data that is served. Beyond it grace time"
        " stands still, so that nobody is cut over an activation that this node did not hear of.",
        low=0,
        high=30 * 86_400,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True)
class NumberingSection:
    """How people write numbers here. Numbers from the network are never changed."""

    country_code: str = setting.text(
        _NUMBERING.country_code,
        "The country code, without +.",
        form="1 to 3 digits",
        check=_country_code,
    )
    trunk_prefix: str = setting.text(
        _NUMBERING.trunk_prefix,
        "What is dialled before a national number: the 0 of 0912….",
        form="at most 5 digits",
        check=_dialling_prefix,
    )
    international_prefix: str = setting.text(
        _NUMBERING.international_prefix,
        "What is dialled before a country code: the 00 of 0098912….",
        form="at most 5 digits",
        check=_dialling_prefix,
    )
    min_national_digits: int = setting.whole(
        _NUMBERING.min_national_digits,
        "The shortest number, without country code and trunk prefix.",
        low=1,
        high=limits.MAX_MSISDN_DIGITS - 1,
        unit="digits",
    )
    max_national_digits: int = setting.whole(
        _NUMBERING.max_national_digits,
        "The longest number, without country code and trunk prefix.",
        low=1,
        high=limits.MAX_MSISDN_DIGITS - 1,
        unit="digits",
    )


@dataclass(frozen=True, slots=True)
class LoadSection:
    """How list files become a snapshot."""

    max_reject_share: float = setting.share(
        0.01,
        "A load fails when a greater share of its rows is rejected; a manifest may say otherwise.",
    )
    threads: int = setting.whole(
        0,
        "Threads that a load may use; 0 is one for each processor.",
        low=0,
        high=256,
        unit="threads",
    )
    memory_mib: int = setting.whole(
        2_048,
        "Memory for sorting; more than this goes to files in the depot for the while.",
        low=128,
        high=1 << 20,
        unit="MiB",
    )


@dataclass(frozen=True, slots=True)
class FeedSection:
    """The registry's feed that this node follows. Without a `url`, lists are loaded by hand."""

    url: str = setting.text(
        "",
        "Where the feed stands: a folder, `https://…`, or `s3://bucket/prefix`; empty: nowhere.",
        form="URL, path or empty",
        check=str,
    )
    root_key: str = setting.text(
        "",
        "The feed's root key, as it was given to you by a way that is not the feed.",
        form="`eir-root-1:…`",
        check=str,
    )
    registry: str = setting.text(
        "", "The publisher's id. A head of another one is refused.", form="text", check=str
    )
    every: int = setting.whole(
        60, "How often the head is asked for.", low=1, high=86_400, unit="seconds"
    )
    stale_after: int = setting.whole(
        3_600,
        "Without a good head for so long, the data are stale, and marked so; lists go on deciding.",
        low=2,
        high=30 * 86_400,
        unit="seconds",
    )
    max_head_age: int = setting.whole(
        7 * 86_400,
        "A node that knows nothing yet refuses to begin with a head that is older.",
        low=60,
        high=10 * 365 * 86_400,
        unit="seconds",
    )
    keep_generations: int = setting.whole(
        3,
        "Snapshots kept in the depot, each with its deltas: how far back `eir rollback` reaches.",
        low=1,
        high=100,
        unit="snapshots",
    )
    root_certificate: Path | None = setting.path_or_none(
        "PEM file with authorities that are trusted for the server, beside the system's."
    )
    client_certificate: Path | None = setting.path_or_none(
        "PEM file with this node's certificate, for a feed that asks for one (mTLS)."
    )
    client_key: Path | None = setting.path_or_none("PEM file with the key of it.")
    endpoint: str = setting.text(
        "", "The bucket's server, where it is not AWS.", form="URL or empty", check=str
    )
    region: str = setting.text("us-east-1", "The bucket's region.", form="text", check=str)
    plaintext: str = setting.choice(
        "refused",
        "Whether a feed may be read over http from another machine, where all can see who uses"
        " which device.",
        words=("refused", "accepted"),
    )


@dataclass(frozen=True, slots=True)
class GuardSection:
    """How much one change of lists, policy or mode may do before a person has to accept it."""

    max_newly_refused: int = setting.whole(
        1_000,
        "Devices and pairs that a change may newly refuse.",
        low=0,
        high=10**9,
        unit="devices and pairs",
    )
    max_shrink: float = setting.share(0.2, "The share of its items that a list may lose at once.")
    max_growth_percent: int = setting.whole(
        100, "By how much a list may grow at once.", low=0, high=1_000_000, unit="percent"
    )
    least_white: int = setting.whole(
        0, "Items that `white` must have at a first load.", low=0, high=10**10, unit="items"
    )
    least_bindings: int = setting.whole(
        0, "Items that `bindings` must have at a first load.", low=0, high=10**10, unit="items"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file, as it is written."""

    node: NodeSection = setting.section(NodeSection())
    workers: WorkersSection = setting.section(WorkersSection())
    metrics: MetricsSection = setting.section(MetricsSection())
    grpc: GrpcSection = setting.section(GrpcSection())
    s13: S13Section = setting.section(S13Section())
    n5g: N5gSection = setting.section(N5gSection())
    admin: AdminSection = setting.section(AdminSection())
    policy: PolicySection = setting.section(PolicySection())
    grace: GraceSection = setting.section(GraceSection())
    numbering: NumberingSection = setting.section(NumberingSection())
    load: LoadSection = setting.section(LoadSection())
    feed: FeedSection = setting.section(FeedSection())
    operator_feed: FeedSection = setting.section(
        FeedSection(every=10),
        "The operator's own feed: overrides, holds, exemptions, the mode, the table IMSI → MSISDN."
        " Without a `url` it is a folder in this node's depot, with a key made at the first start;"
        " several nodes name one place, and share one truth.",
    )
    guard: GuardSection = setting.section(GuardSection())
    compaction: CompactionSection = setting.section(CompactionSection())
    breaker: BreakerSection = setting.section(BreakerSection())
    sightings: SightingsSection = setting.section(SightingsSection())
