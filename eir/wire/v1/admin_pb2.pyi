from eir.wire.v1 import eligibility_pb2 as _eligibility_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("version", "started_at", "now", "ready", "stale", "mode", "generations", "reasons", "checks", "alarms", "workers", "happenings", "overlays", "orders")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class ChecksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    HAPPENINGS_FIELD_NUMBER: _ClassVar[int]
    OVERLAYS_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    started_at: int
    now: int
    ready: bool
    stale: bool
    mode: str
    generations: _containers.RepeatedCompositeFieldContainer[ServedGeneration]
    reasons: _containers.ScalarMap[int, str]
    checks: _containers.ScalarMap[str, int]
    alarms: _containers.RepeatedScalarFieldContainer[str]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    happenings: _containers.RepeatedCompositeFieldContainer[Happening]
    overlays: _containers.RepeatedCompositeFieldContainer[Overlay]
    orders: _containers.RepeatedCompositeFieldContainer[StandingOrder]
    def __init__(self, version: _Optional[str] = ..., started_at: _Optional[int] = ..., now: _Optional[int] = ..., ready: _Optional[bool] = ..., stale: _Optional[bool] = ..., mode: _Optional[str] = ..., generations: _Optional[_Iterable[_Union[ServedGeneration, _Mapping]]] = ..., reasons: _Optional[_Mapping[int, str]] = ..., checks: _Optional[_Mapping[str, int]] = ..., alarms: _Optional[_Iterable[str]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., happenings: _Optional[_Iterable[_Union[Happening, _Mapping]]] = ..., overlays: _Optional[_Iterable[_Union[Overlay, _Mapping]]] = ..., orders: _Optional[_Iterable[_Union[StandingOrder, _Mapping]]] = ...) -> None: ...

class StandingOrder(_message.Message):
    __slots__ = ("what", "until", "who", "at", "why")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    what: str
    until: int
    who: str
    at: int
    why: str
    def __init__(self, what: _Optional[str] = ..., until: _Optional[int] = ..., who: _Optional[str] = ..., at: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class Overlay(_message.Message):
    __slots__ = ("feed", "touched_keys", "due_at_keys", "deltas", "compacting", "last")
    FEED_FIELD_NUMBER: _ClassVar[int]
    TOUCHED_KEYS_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_KEYS_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    COMPACTING_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    feed: str
    touched_keys: int
    due_at_keys: int
    deltas: int
    compacting: bool
    last: str
    def __init__(self, feed: _Optional[str] = ..., touched_keys: _Optional[int] = ..., due_at_keys: _Optional[int] = ..., deltas: _Optional[int] = ..., compacting: _Optional[bool] = ..., last: _Optional[str] = ...) -> None: ...

class Happening(_message.Message):
    __slots__ = ("at", "what", "who", "why", "detail")
    AT_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    at: int
    what: str
    who: str
    why: str
    detail: str
    def __init__(self, at: _Optional[int] = ..., what: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("slot", "pid", "state", "since", "restarts", "checks", "serials", "takeup_seconds", "rss_bytes", "pss_bytes")
    class SerialsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SERIALS_FIELD_NUMBER: _ClassVar[int]
    TAKEUP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    slot: int
    pid: int
    state: str
    since: int
    restarts: int
    checks: int
    serials: _containers.ScalarMap[str, int]
    takeup_seconds: float
    rss_bytes: int
    pss_bytes: int
    def __init__(self, slot: _Optional[int] = ..., pid: _Optional[int] = ..., state: _Optional[str] = ..., since: _Optional[int] = ..., restarts: _Optional[int] = ..., checks: _Optional[int] = ..., serials: _Optional[_Mapping[str, int]] = ..., takeup_seconds: _Optional[float] = ..., rss_bytes: _Optional[int] = ..., pss_bytes: _Optional[int] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("feed", "registry_id", "session", "serial", "digest")
    FEED_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    feed: str
    registry_id: str
    session: str
    serial: int
    digest: str
    def __init__(self, feed: _Optional[str] = ..., registry_id: _Optional[str] = ..., session: _Optional[str] = ..., serial: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class ServedGeneration(_message.Message):
    __slots__ = ("origin", "made_at", "items")
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    origin: Origin
    made_at: int
    items: _containers.ScalarMap[str, int]
    def __init__(self, origin: _Optional[_Union[Origin, _Mapping]] = ..., made_at: _Optional[int] = ..., items: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("imei", "msisdn", "imsi")
    IMEI_FIELD_NUMBER: _ClassVar[int]
    MSISDN_FIELD_NUMBER: _ClassVar[int]
    IMSI_FIELD_NUMBER: _ClassVar[int]
    imei: str
    msisdn: str
    imsi: str
    def __init__(self, imei: _Optional[str] = ..., msisdn: _Optional[str] = ..., imsi: _Optional[str] = ...) -> None: ...

class ExplainReply(_message.Message):
    __slots__ = ("status", "decided_status", "reason", "reason_name", "valid_until", "changed_by", "row", "rules", "facts", "black", "deadline", "now", "grace_time", "imei14", "msisdn", "imsi", "origins")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REASON_NAME_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    CHANGED_BY_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    BLACK_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    GRACE_TIME_FIELD_NUMBER: _ClassVar[int]
    IMEI14_FIELD_NUMBER: _ClassVar[int]
    MSISDN_FIELD_NUMBER: _ClassVar[int]
    IMSI_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    status: _eligibility_pb2.Status
    decided_status: _eligibility_pb2.Status
    reason: int
    reason_name: str
    valid_until: int
    changed_by: str
    row: int
    rules: _containers.RepeatedCompositeFieldContainer[TriedRule]
    facts: _containers.RepeatedScalarFieldContainer[str]
    black: _containers.RepeatedScalarFieldContainer[str]
    deadline: int
    now: int
    grace_time: int
    imei14: int
    msisdn: int
    imsi: int
    origins: _containers.RepeatedCompositeFieldContainer[Origin]
    def __init__(self, status: _Optional[_Union[_eligibility_pb2.Status, str]] = ..., decided_status: _Optional[_Union[_eligibility_pb2.Status, str]] = ..., reason: _Optional[int] = ..., reason_name: _Optional[str] = ..., valid_until: _Optional[int] = ..., changed_by: _Optional[str] = ..., row: _Optional[int] = ..., rules: _Optional[_Iterable[_Union[TriedRule, _Mapping]]] = ..., facts: _Optional[_Iterable[str]] = ..., black: _Optional[_Iterable[str]] = ..., deadline: _Optional[int] = ..., now: _Optional[int] = ..., grace_time: _Optional[int] = ..., imei14: _Optional[int] = ..., msisdn: _Optional[int] = ..., imsi: _Optional[int] = ..., origins: _Optional[_Iterable[_Union[Origin, _Mapping]]] = ...) -> None: ...

class TriedRule(_message.Message):
    __slots__ = ("row", "condition", "outcome")
    ROW_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    row: int
    condition: str
    outcome: str
    def __init__(self, row: _Optional[int] = ..., condition: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadReply(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...
