"""Our registration with the NRF (TS 29.510 5.2.2): the life of one NF profile, one per node.

          PUT 200/201                     stop: DELETE
    away ─────────────▶ registered ──────────────────────▶ gone
      ▲                  │   ▲  │
      └──── 404 to PATCH ┘   └──┘ PATCH nfStatus, each heartbeat and at once when readiness turns

While nothing serves the status is SUSPENDED, so that consumers are sent elsewhere. An NRF that does
not answer is left for the next one, after a pause that doubles up to MAX_PAUSE_S. Never ends the
door: the engine answers whether the NRF lives or not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Literal

import httpx

from eir import limits
from eir.doors.n5g_client import capped_body, open_client
from eir.doors.n5g_codec import SERVICE
from eir.doors.n5g_settings import NrfSettings
from eir.errors import Refused

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0
API_VERSION: Final = "1.0.0"
_SERVICE_INSTANCE: Final = f"{SERVICE}-1"

Phase = Literal["away", "registered", "gone"]


class NrfRegistration:
    """Keeps our profile alive from ``start`` to ``stop``.

    ``ready`` says whether a generation serves; call ``readiness_changed`` (from any thread) when
    that turns. ``scheme`` is what consumers must use at the door.
    """

    def __init__(
        self,
        settings: NrfSettings,
        *,
        instance_id: str,
        scheme: Literal["http", "https"],
        ready: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._instance_id = instance_id
        self._scheme: Literal["http", "https"] = scheme
        self._ready = ready
        self._url_at = 0
        self._stir = asyncio.Event()
        self._stopping = False
        self._heartbeat_s = float(settings.heartbeat_s)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.phase: Phase = "away"

    async def start(self) -> None:
        """Begin in the background. Raises Refused ``tls-unusable`` for files that do not load."""
        client = open_client(
            timeout_s=self._settings.timeout_s,
            ca=self._settings.ca,
            certificate=self._settings.certificate,
            key=self._settings.key,
        )
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._live(client))

    def readiness_changed(self) -> None:
        """Tell the NRF now, not at the next heartbeat."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stir.set)

    async def stop(self) -> None:
        """Deregister, once, and return; an NRF that does not answer does not hold us."""
        if self._task is None:
            return
        self._stopping = True
        self._stir.set()
        await self._task
        self.phase = "gone"

    async def _live(self, client: httpx.AsyncClient) -> None:
        pause = FIRST_PAUSE_S
        async with client:
            while not self._stopping:
                self._stir.clear()
                try:
                    await self._beat(client)
                    pause, wait = FIRST_PAUSE_S, self._wait()
                except (httpx.HTTPError, httpx.InvalidURL, Refused) as error:
                    logger.warning("NRF %s: %s: %s", self._url(), type(error).__name__, error)
                    self._url_at += 1
                    pause, wait = min(pause * 2, MAX_PAUSE_S), pause
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stir.wait(), wait)
            if self.phase == "registered":
                await self._leave(client)

    def _wait(self) -> float:
        """Seconds to the next beat: a tenth early, so that the NRF's own timer never runs out."""
        return 0.0 if self.phase == "away" else self._heartbeat_s * 0.9

    async def _beat(self, client: httpx.AsyncClient) -> None:
        """One exchange: register where we are not, else a heartbeat with our status."""
        status = "REGISTERED" if self._ready() else "SUSPENDED"
        if self.phase == "away":
            code, answer = await self._send(client, "PUT", self._profile(status))
            self.phase = "registered"
            logger.info("registered at NRF %s as %s", self._url(), status)
        else:
            patch = [{"op": "replace", "path": "/nfStatus", "value": status}]
            code, answer = await self._send(client, "PATCH", patch)
            if code == httpx.codes.NOT_FOUND:
                logger.warning("NRF %s does not know us any more", self._url())
                self.phase = "away"
        self._take_heartbeat(answer)

    async def _leave(self, client: httpx.AsyncClient) -> None:
        try:
            await self._send(client, "DELETE", None)
            logger.info("deregistered at NRF %s", self._url())
        except (httpx.HTTPError, Refused) as error:
            logger.warning("NRF %s: not deregistered: %s", self._url(), error)

    async def _send(
        self, client: httpx.AsyncClient, method: str, body: object
    ) -> tuple[int, Mapping[str, object]]:
        """Status code and JSON object of the answer (empty for none). Raises for 4xx and 5xx;

        only 404 to PATCH and DELETE is an answer. A redirect to a sister NRF is followed.
        """
        kind = "application/json-patch+json" if method == "PATCH" else "application/json"
        url = f"{self._url()}/nnrf-nfm/v1/nf-instances/{self._instance_id}"
        headers = {"accept": "application/json, application/problem+json"}
        content = None
        if body is not None:
            headers["content-type"] = kind
            content = json.dumps(body).encode()
        async with client.stream(
            method, url, headers=headers, content=content, follow_redirects=True
        ) as response:
            if response.status_code != httpx.codes.NOT_FOUND or method == "PUT":
                response.raise_for_status()
            raw = await capped_body(response, limits.MAX_NRF_ANSWER_BYTES)
        return response.status_code, _object(raw)

    def _take_heartbeat(self, answer: Mapping[str, object]) -> None:
        timer = answer.get("heartBeatTimer")
        if isinstance(timer, int) and not isinstance(timer, bool) and timer >= 1:
            self._heartbeat_s = float(timer)

    def _url(self) -> str:
        urls = self._settings.urls
        return urls[self._url_at % len(urls)].rstrip("/")

    def _profile(self, status: str) -> dict[str, object]:
        return nf_profile(
            self._settings, instance_id=self._instance_id, scheme=self._scheme, status=status
        )


def nf_profile(
    settings: NrfSettings, *, instance_id: str, scheme: Literal["http", "https"], status: str
) -> dict[str, object]:
    """Our NFProfile (TS 29.510 6.1.6.2.2): a 5G_EIR with the one service, reached at one place."""
    kind, endpoint_kind = _address_kinds(settings.address)
    endpoint: dict[str, object] = {"transport": "TCP", "port": settings.port}
    if endpoint_kind:
        endpoint[endpoint_kind] = settings.address
    service: dict[str, object] = {
        "serviceInstanceId": _SERVICE_INSTANCE,
        "serviceName": SERVICE,
        "versions": [{"apiVersionInUri": "v1", "apiFullVersion": API_VERSION}],
        "scheme": scheme,
        "nfServiceStatus": "REGISTERED",
        "ipEndPoints": [endpoint],
    }
    profile: dict[str, object] = {
        "nfInstanceId": instance_id,
        "nfType": "5G_EIR",
        "nfStatus": status,
        "heartBeatTimer": settings.heartbeat_s,
        kind: settings.address if kind == "fqdn" else [settings.address],
        "nfServices": [service],
    }
    if kind == "fqdn":
        service["fqdn"] = settings.address
    if settings.plmns:
        profile["plmnList"] = [{"mcc": plmn[:3], "mnc": plmn[3:]} for plmn in settings.plmns]
    return profile


def _address_kinds(address: str) -> tuple[str, str]:
    """The attribute names for an address, in the profile and in its endpoint."""
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return "fqdn", ""
    return f"ipv{version}Addresses", f"ipv{version}Address"


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
