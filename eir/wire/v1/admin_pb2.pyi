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
    __slots__ = ("version", "started_at", "now", "ready", "stale", "mode", "generations", "reasons", "checks", "alarms")
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
    def __init__(self, version: _Optional[str] = ..., started_at: _Optional[int] = ..., now: _Optional[int] = ..., ready: _Optional[bool] = ..., stale: _Optional[bool] = ..., mode: _Optional[str] = ..., generations: _Optional[_Iterable[_Union[ServedGeneration, _Mapping]]] = ..., reasons: _Optional[_Mapping[int, str]] = ..., checks: _Optional[_Mapping[str, int]] = ..., alarms: _Optional[_Iterable[str]] = ...) -> None: ...

class ServedGeneration(_message.Message):
    __slots__ = ("feed", "registry_id", "session", "serial", "made_at", "digest", "items")
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FEED_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    feed: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    items: _containers.ScalarMap[str, int]
    def __init__(self, feed: _Optional[str] = ..., registry_id: _Optional[str] = ..., session: _Optional[str] = ..., serial: _Optional[int] = ..., made_at: _Optional[int] = ..., digest: _Optional[str] = ..., items: _Optional[_Mapping[str, int]] = ...) -> None: ...

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
    __slots__ = ("verdict", "rules", "facts", "grace_time")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    GRACE_TIME_FIELD_NUMBER: _ClassVar[int]
    verdict: _eligibility_pb2.CheckReply
    rules: _containers.RepeatedCompositeFieldContainer[TriedRule]
    facts: _containers.RepeatedScalarFieldContainer[str]
    grace_time: int
    def __init__(self, verdict: _Optional[_Union[_eligibility_pb2.CheckReply, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[TriedRule, _Mapping]]] = ..., facts: _Optional[_Iterable[str]] = ..., grace_time: _Optional[int] = ...) -> None: ...

class TriedRule(_message.Message):
    __slots__ = ("row", "reason", "matched", "because")
    ROW_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    row: int
    reason: str
    matched: bool
    because: str
    def __init__(self, row: _Optional[int] = ..., reason: _Optional[str] = ..., matched: _Optional[bool] = ..., because: _Optional[str] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadReply(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...
