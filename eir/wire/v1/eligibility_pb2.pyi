from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_WHITELISTED: _ClassVar[Status]
    STATUS_GREYLISTED: _ClassVar[Status]
    STATUS_BLACKLISTED: _ClassVar[Status]
    STATUS_UNKNOWN: _ClassVar[Status]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_OVERRIDE_DENY: _ClassVar[Reason]
    REASON_OVERRIDE_ALLOW: _ClassVar[Reason]
    REASON_EXEMPT_SUBSCRIBER: _ClassVar[Reason]
    REASON_MALFORMED_IMEI: _ClassVar[Reason]
    REASON_BOUND_EXCEPTION: _ClassVar[Reason]
    REASON_BLACK_SUBSCRIBER_UNKNOWN: _ClassVar[Reason]
    REASON_ROAMER: _ClassVar[Reason]
    REASON_EXEMPT_EQUIPMENT: _ClassVar[Reason]
    REASON_BOUND: _ClassVar[Reason]
    REASON_LEGACY: _ClassVar[Reason]
    REASON_SUBSCRIBER_UNKNOWN: _ClassVar[Reason]
    REASON_GRACE: _ClassVar[Reason]
    REASON_GRACE_EXPIRED: _ClassVar[Reason]
    REASON_BOUND_TO_OTHER: _ClassVar[Reason]
    REASON_NOT_ACTIVATED: _ClassVar[Reason]
    REASON_NOT_REGISTERED: _ClassVar[Reason]
STATUS_UNSPECIFIED: Status
STATUS_WHITELISTED: Status
STATUS_GREYLISTED: Status
STATUS_BLACKLISTED: Status
STATUS_UNKNOWN: Status
REASON_UNSPECIFIED: Reason
REASON_OVERRIDE_DENY: Reason
REASON_OVERRIDE_ALLOW: Reason
REASON_EXEMPT_SUBSCRIBER: Reason
REASON_MALFORMED_IMEI: Reason
REASON_BOUND_EXCEPTION: Reason
REASON_BLACK_SUBSCRIBER_UNKNOWN: Reason
REASON_ROAMER: Reason
REASON_EXEMPT_EQUIPMENT: Reason
REASON_BOUND: Reason
REASON_LEGACY: Reason
REASON_SUBSCRIBER_UNKNOWN: Reason
REASON_GRACE: Reason
REASON_GRACE_EXPIRED: Reason
REASON_BOUND_TO_OTHER: Reason
REASON_NOT_ACTIVATED: Reason
REASON_NOT_REGISTERED: Reason

class CheckRequest(_message.Message):
    __slots__ = ("imei", "msisdn", "imsi")
    IMEI_FIELD_NUMBER: _ClassVar[int]
    MSISDN_FIELD_NUMBER: _ClassVar[int]
    IMSI_FIELD_NUMBER: _ClassVar[int]
    imei: str
    msisdn: str
    imsi: str
    def __init__(self, imei: _Optional[str] = ..., msisdn: _Optional[str] = ..., imsi: _Optional[str] = ...) -> None: ...

class CheckReply(_message.Message):
    __slots__ = ("status", "decided_status", "reason", "reason_name", "valid_until", "registry_serial", "operator_serial", "stale")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REASON_NAME_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_SERIAL_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_SERIAL_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    status: Status
    decided_status: Status
    reason: int
    reason_name: str
    valid_until: int
    registry_serial: int
    operator_serial: int
    stale: bool
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., decided_status: _Optional[_Union[Status, str]] = ..., reason: _Optional[int] = ..., reason_name: _Optional[str] = ..., valid_until: _Optional[int] = ..., registry_serial: _Optional[int] = ..., operator_serial: _Optional[int] = ..., stale: _Optional[bool] = ...) -> None: ...

class CheckBatchRequest(_message.Message):
    __slots__ = ("imei14", "msisdn", "imsi")
    IMEI14_FIELD_NUMBER: _ClassVar[int]
    MSISDN_FIELD_NUMBER: _ClassVar[int]
    IMSI_FIELD_NUMBER: _ClassVar[int]
    imei14: _containers.RepeatedScalarFieldContainer[int]
    msisdn: _containers.RepeatedScalarFieldContainer[int]
    imsi: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, imei14: _Optional[_Iterable[int]] = ..., msisdn: _Optional[_Iterable[int]] = ..., imsi: _Optional[_Iterable[int]] = ...) -> None: ...

class CheckBatchReply(_message.Message):
    __slots__ = ("status", "decided_status", "reason", "valid_until", "registry_serial", "operator_serial", "stale")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_SERIAL_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_SERIAL_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    status: _containers.RepeatedScalarFieldContainer[Status]
    decided_status: _containers.RepeatedScalarFieldContainer[Status]
    reason: _containers.RepeatedScalarFieldContainer[int]
    valid_until: _containers.RepeatedScalarFieldContainer[int]
    registry_serial: int
    operator_serial: int
    stale: bool
    def __init__(self, status: _Optional[_Iterable[_Union[Status, str]]] = ..., decided_status: _Optional[_Iterable[_Union[Status, str]]] = ..., reason: _Optional[_Iterable[int]] = ..., valid_until: _Optional[_Iterable[int]] = ..., registry_serial: _Optional[int] = ..., operator_serial: _Optional[int] = ..., stale: _Optional[bool] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("tag", "batch")
    TAG_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    tag: int
    batch: CheckBatchRequest
    def __init__(self, tag: _Optional[int] = ..., batch: _Optional[_Union[CheckBatchRequest, _Mapping]] = ...) -> None: ...

class CheckStreamReply(_message.Message):
    __slots__ = ("tag", "batch")
    TAG_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    tag: int
    batch: CheckBatchReply
    def __init__(self, tag: _Optional[int] = ..., batch: _Optional[_Union[CheckBatchReply, _Mapping]] = ...) -> None: ...
