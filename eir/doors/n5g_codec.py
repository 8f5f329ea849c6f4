"""N5g-eir (TS 29.511) as values: query string in, question or problem; verdict in, response.

Every query string has exactly one outcome, and nothing here raises on what came from outside.
No identity of a device or subscriber is ever repeated in a problem's text: problems go to logs of
others. Never opens a socket, reads a clock, or decides a verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from http import HTTPStatus
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from eir import limits
from eir.core.imei import ImeiKey, key_from_digits
from eir.core.policy import Status
from eir.core.subscriber import (
    NO_IMSI,
    NO_MSISDN,
    ImsiCode,
    Msisdn,
    imsi_from_digits,
    msisdn_from_digits,
)

SERVICE: Final = "n5g-eir-eic"
RESOURCE_PATH: Final = "/n5g-eir-eic/v1/equipment-status"
OPENAPI_PATH: Final = "/openapi/n5g-eir.yaml"
JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"

Headers = tuple[tuple[str, str], ...]
UnknownAnswer = Literal["not-found", "WHITELISTED", "GREYLISTED", "BLACKLISTED"]

_PARAMS: Final = frozenset({"pei", "supi", "gpsi", "supported-features"})
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FEATURES: Final = re.compile(r"[0-9A-Fa-f]*", re.ASCII)
_DIGITS_5_15: Final = re.compile(r"[0-9]{5,15}", re.ASCII)
_USUAL: Final = re.compile(
    r"pei=imei(?:sv)?-([0-9]{14,16})"
    r"(?:&supi=imsi-([0-9]{5,15}))?(?:&gpsi=msisdn-([1-9][0-9]{4,14}))?",
    re.ASCII,
)


class Question(NamedTuple):
    """One device and, where the core told us, its subscriber; 0 = none (or a malformed IMEI).

    A tuple, since one is made for every request and a frozen dataclass costs three times that.
    """

    key: ImeiKey
    msisdn: Msisdn
    imsi: ImsiCode


@dataclass(frozen=True, slots=True)
class Problem:
    """ProblemDetails (RFC 9457, TS 29.571 5.2.4.1). ``headers`` go with the response.

    ``invalid`` holds (param, reason) pairs, param as TS 29.500 5.2.7.2 wants it: "query pei".
    """

    status: HTTPStatus
    cause: str = ""
    detail: str = ""
    invalid: tuple[tuple[str, str], ...] = ()
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response, encoded; ``counted``: the event, and what it was, that it is counted as."""

    status: int
    headers: Headers
    body: bytes
    counted: tuple[str, str]


NO_SUCH_URI: Final = Problem(
    HTTPStatus.NOT_FOUND,
    "RESOURCE_URI_STRUCTURE_NOT_FOUND",
    f"the one resource here is {RESOURCE_PATH}",
)
NOT_GET: Final = Problem(
    HTTPStatus.METHOD_NOT_ALLOWED, detail="only GET is allowed here", headers=(("allow", "GET"),)
)
NOT_ACCEPTABLE: Final = Problem(
    HTTPStatus.NOT_ACCEPTABLE, detail=f"the answer is {JSON}, which Accept excludes"
)
URI_TOO_LONG: Final = Problem(
    HTTPStatus.REQUEST_URI_TOO_LONG,
    detail=f"at most {limits.MAX_N5G_URL_CHARS} characters of path and query",
)
UNKNOWN_EQUIPMENT: Final = Problem(
    HTTPStatus.NOT_FOUND, "ERROR_EQUIPMENT_UNKNOWN", "the equipment is not known here"
)
OTHER_PEI: Final = Problem(
    HTTPStatus.NOT_FOUND, "ERROR_EQUIPMENT_UNKNOWN", "only imei- and imeisv- PEIs are known here"
)
OUR_FAULT: Final = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "SYSTEM_FAILURE", "the request met a fault of this node"
)


def not_ready(retry_after_s: int) -> Problem:
    """503: nothing serves yet, or no longer; another 5G-EIR may answer."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail="no data serves on this node: ask another",
        headers=(("retry-after", str(retry_after_s)),),
    )


def too_many(retry_after_s: int) -> Problem:
    """429: more questions wait than this node takes on."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "NF_CONGESTION_RISK",
        "more requests wait than this node takes on",
        headers=(("retry-after", str(retry_after_s)),),
    )


def question(query: str) -> Question | Problem:
    """What the query part of the URI asks (TS 29.511 6.1.3.2.3.1).

    Digits of a wrong number behind ``imei-`` or ``imeisv-`` are a question with key 0, which the
    decision table answers. Parameters of other names are ignored (TS 29.500 5.2.9).
    """
    usual = _USUAL.fullmatch(query)
    return _of_any_form(query) if usual is None else _of_usual_form(*usual.groups(""))


def _of_usual_form(imei: str, imsi: str, msisdn: str) -> Question:
    """What nearly every AMF asks, in half the time."""
    return Question(
        key_from_digits(imei),
        msisdn_from_digits(msisdn) if msisdn else NO_MSISDN,
        imsi_from_digits(imsi) if imsi else NO_IMSI,
    )


def _of_any_form(query: str) -> Question | Problem:
    given: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in _PARAMS:
            name = _decoded(name) or ""
            if name not in _PARAMS:
                continue
        if name in given:
            return _incorrect(name, "given more than once")
        if "%" in value:
            decoded = _decoded(value)
            if decoded is None:
                return _incorrect(name, "not percent-encoded UTF-8")
            value = decoded
        given[name] = value
    return _asked(given)


def _asked(given: Mapping[str, str]) -> Question | Problem:
    key = _device(given.get("pei"))
    if isinstance(key, Problem) and key is not OTHER_PEI:
        return key
    imsi = _imsi(given["supi"]) if "supi" in given else NO_IMSI
    if isinstance(imsi, Problem):
        return imsi
    msisdn = _msisdn(given["gpsi"]) if "gpsi" in given else NO_MSISDN
    if isinstance(msisdn, Problem):
        return msisdn
    if "supported-features" in given and not _FEATURES.fullmatch(given["supported-features"]):
        return _incorrect("supported-features", "must be hexadecimal digits")
    return key if isinstance(key, Problem) else Question(key, msisdn, imsi)


def _device(pei: str | None) -> ImeiKey | Problem:
    if pei is None:
        return _PEI_MISSING
    if pei == "" or len(pei) > limits.MAX_PEI_CHARS:
        return _incorrect("pei", "must have 1 to 64 characters")
    kind, _, digits = pei.partition("-")
    if kind not in ("imei", "imeisv") or pei == kind:
        return OTHER_PEI
    return key_from_digits(digits) if digits else _incorrect("pei", "has no digits")


def _imsi(supi: str) -> ImsiCode | Problem:
    """The IMSI of a SUPI; none of a NAI, GCI, GLI or any other form (TS 29.571 5.3.2)."""
    if not supi:
        return _incorrect("supi", "is empty")
    if not supi.startswith("imsi-"):
        return NO_IMSI
    return imsi_from_digits(supi[5:]) or _incorrect("supi", "imsi- takes 5 to 15 digits")


def _msisdn(gpsi: str) -> Msisdn | Problem:
    """The MSISDN of a GPSI; none of an external id, or of digits that E.164 cannot have."""
    if not gpsi:
        return _incorrect("gpsi", "is empty")
    if not gpsi.startswith("msisdn-"):
        return NO_MSISDN
    if not _DIGITS_5_15.fullmatch(gpsi, 7):
        return _incorrect("gpsi", "msisdn- takes 5 to 15 digits")
    return msisdn_from_digits(gpsi[7:])


def _decoded(text: str) -> str | None:
    """Percent-decoded text; None where the escapes are broken or no UTF-8."""
    if _BAD_ESCAPE.search(text):
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


_PEI_MISSING: Final = Problem(
    HTTPStatus.BAD_REQUEST,
    "MANDATORY_QUERY_PARAM_MISSING",
    "the query parameter pei is required",
    (("query pei", "is missing"),),
)


def _incorrect(param: str, reason: str) -> Problem:
    kind = "MANDATORY" if param == "pei" else "OPTIONAL"
    return Problem(
        HTTPStatus.BAD_REQUEST,
        f"{kind}_QUERY_PARAM_INCORRECT",
        f"the query parameter {param} is incorrect",
        ((f"query {param}", reason),),
    )


@lru_cache(maxsize=256)
def problem_reply(problem: Problem) -> Reply:
    """The encoded response of a problem, ``application/problem+json``."""
    body: dict[str, object] = {"title": problem.status.phrase, "status": problem.status.value}
    if problem.detail:
        body["detail"] = problem.detail
    if problem.cause:
        body["cause"] = problem.cause
    if problem.invalid:
        body["invalidParams"] = [{"param": p, "reason": r} for p, r in problem.invalid]
    headers = (("content-type", PROBLEM_JSON), _NO_STORE, *problem.headers)
    octets = json.dumps(body, separators=(",", ":")).encode()
    return Reply(problem.status.value, headers, octets, ("fault", str(problem.status.value)))


_NO_STORE: Final = ("cache-control", "no-store")


def verdict_replies(unknown: UnknownAnswer) -> tuple[Reply, ...]:
    """The responses by status code: index 1 … 4 as Status; index 0, no status, is our fault.

    ``unknown`` is what UNKNOWN leaves as: 404 ``ERROR_EQUIPMENT_UNKNOWN``, or one of the three
    statuses that the interface knows.
    """
    replies = [problem_reply(OUR_FAULT)] * (max(Status) + 1)
    for status in (Status.WHITELISTED, Status.GREYLISTED, Status.BLACKLISTED):
        body = json.dumps({"status": status.name}, separators=(",", ":")).encode()
        headers = (("content-type", JSON), _NO_STORE)
        replies[status] = Reply(HTTPStatus.OK.value, headers, body, _answered(status))
    not_found = replace(problem_reply(UNKNOWN_EQUIPMENT), counted=_answered(Status.UNKNOWN))
    replies[Status.UNKNOWN] = not_found if unknown == "not-found" else replies[Status[unknown]]
    return tuple(replies)


def _answered(status: Status) -> tuple[str, str]:
    return "answer", status.name.lower()


def accepts_json(accept: Iterable[str]) -> bool:
    """Whether the Accept header lines allow ``application/json`` (RFC 9110 12.5.1); none: yes.

    The most specific range that fits decides; one with q=0 forbids.
    """
    line = ",".join(accept)
    if not line.strip() or line == JSON or line == "*/*":
        return True
    return len(line) <= limits.MAX_N5G_ACCEPT_CHARS and _allows_json(line)


@lru_cache(maxsize=64)
def _allows_json(line: str) -> bool:
    ranks = {JSON: 3, "application/*": 2, "*/*": 1}
    best, allowed = 0, False
    for item in line.split(","):
        media, *params = (piece.strip().lower() for piece in item.split(";"))
        rank = ranks.get(media, 0)
        if rank > best:
            best, allowed = rank, _quality(params) > 0
        elif rank == best and rank:
            allowed = allowed or _quality(params) > 0
    return allowed


def _quality(params: Iterable[str]) -> float:
    """The q of a media range: 1 where absent, 0 where it is no number of RFC 9110 12.4.2."""
    for param in params:
        name, _, value = param.partition("=")
        if name.strip() == "q":
            number = value.strip()
            return float(number) if re.fullmatch(r"[01](\.[0-9]{0,3})?", number) else 0.0
    return 1.0
