"""MQTT 5 uplink: SenML packs on ``litfass/<gateway>/readings``, gaps, a retained status and a last will.

aiomqtt 2.5 wakes a publisher at any PUBACK, whatever its reason code; a broker that *refuses* a message (0x80 and
above, for example an ACL) would look as if it had taken it. `_Connection` therefore keeps the acknowledgements itself.
"""

import asyncio
import contextlib
import json
import logging
import os
import pathlib
import socket
import ssl
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, error_string
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as MqttProperties

from gateway.backoff import Backoff
from gateway.driver import Problem
from gateway.errors import UplinkDownError, UplinkError, UplinkRefusedError
from gateway.log import event
from gateway.ring import Gap
from gateway.settings import (
    Address,
    Kind,
    Secret,
    WrongValueError,
    choice,
    duration,
    file_path,
    secret,
    setting,
    text,
)
from gateway.supervisor import cancel_and_wait
from gateway.uplinks import UplinkType
from gateway.uplinks.sender import Batch, BatchTooLargeError, Sender, UplinkParts
from gateway.uplinks.senml import CONTENT_TYPE, encode_pack

TOPIC_PREFIX = "litfass"
QOS = 1
STATUS_INTERVAL_S = 300.0  # the retained status is refreshed this often
CONNECT_TIMEOUT_S = 20.0  # from the open socket to CONNACK
TCP_USER_TIMEOUT_MS = 30_000  # unacknowledged octets for this long: the peer is gone (RFC 5482)
PACKET_OVERHEAD_SIZE = 512  # octets of topic, properties and headers around a payload
REFUSED_FIRST_S = 5.0  # a refusal is rarely healed within seconds
REFUSED_MAX_S = 300.0
SHORT_LIFE_S = 10.0  # a connection lost sooner than this ...
SHORT_LIVES_SUSPICIOUS = 3  # ... so often in a row looks like two clients with one id
SESSION_TAKEN_OVER = 0x8E  # MQTT 5, 3.14.2.1
REFUSAL_MIN = 0x80  # MQTT 5, 2.4: reason codes from here on are failures
PAUSE_CODES = (0x97,)  # quota exceeded: the message is fine, the moment is not
TLS12_CIPHERS = "ECDHE+AESGCM"  # BSI TR-02102-2: forward secrecy, authenticated encryption

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """``mqtts://host:port`` (TLS) or ``mqtt://host:port`` (plain, this machine only)."""

    address: Address
    is_tls: bool

    def __str__(self) -> str:
        return f"{'mqtts' if self.is_tls else 'mqtt'}://{self.address}"


def _broker_url() -> Kind[BrokerUrl]:
    def parse(value: object, _: pathlib.Path) -> BrokerUrl:
        try:
            parts = urllib.parse.urlsplit(str(value))
            port = parts.port
        except ValueError:
            raise WrongValueError from None
        is_tls = parts.scheme == "mqtts"
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.username or parts.path.strip("/"):
            raise WrongValueError
        address = Address(parts.hostname, port or (8883 if is_tls else 1883))
        if not is_tls and not address.is_loopback:
            raise WrongValueError('"mqtts://…": readings leave this machine over TLS only')
        return BrokerUrl(address, is_tls)

    return Kind('a URL such as "mqtts://broker.city.example:8883"', parse)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The keys of an ``[[uplink]]`` of type ``mqtt``."""

    url: BrokerUrl = setting(_broker_url(), help="the broker; mqtts:// verifies its certificate and name")
    ca: pathlib.Path | None = setting(file_path(), default=None, help="PEM file of the authorities trusted for it")
    cert: pathlib.Path | None = setting(file_path(), default=None, help="PEM file of our certificate (mutual TLS)")
    key: Secret | None = setting(secret(), default=None, help="our private key, PEM")
    username: str | None = setting(text(), default=None, help="user name, where the broker wants one")
    password: Secret | None = setting(secret(), default=None, help="password or bearer token")
    format: str = setting(choice("senml+json"), default="senml+json", help="how readings are written")
    order: str = setting(choice("fifo", "live-first"), default="fifo", help="what goes first after an outage")
    keepalive: float = setting(duration(5, 3600), default="60s", help="a silent connection is probed this often")


def check_settings(settings: MqttSettings) -> Iterable[Problem]:
    """Find what contradicts itself: TLS without an authority, a certificate without its key."""
    if settings.url.is_tls:
        if settings.ca is None:
            yield Problem(
                None, "ca", '"ca" is missing', "expected the PEM file of the authority that signed the broker's"
                " certificate (/etc/ssl/certs/ca-certificates.crt for public ones)",
            )  # fmt: skip
        if (settings.cert is None) != (settings.key is None):
            yield Problem(None, "cert", "only one of cert and key is given", "expected both, or neither")
        for key in ("ca", "cert"):
            path = getattr(settings, key)
            if path is not None and not os.access(path, os.R_OK):
                yield Problem(None, key, f"{key} = {path} cannot be read", "expected a readable PEM file")
    elif settings.cert or settings.ca:
        yield Problem(None, "url", f'url = "{settings.url}" with certificates', 'expected "mqtts://…"')
    if settings.password is not None and settings.cert is None and settings.url.is_tls:
        advice = "a client certificate (cert, key) is safer"
        yield Problem(None, "password", "login by password", advice, is_warning=True)
    if settings.order == "live-first":
        advice = 'this version sends in order ("fifo") whatever is asked'
        yield Problem(None, "order", 'order = "live-first"', advice, is_warning=True)


def make_tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Return the TLS context: version 1.2 or newer, the broker's certificate and name verified, always.

    Files are read anew at each connection, so a renewed certificate is used without a restart.

    Raises:
        OSError: A file cannot be read or is no PEM (`ssl.SSLError` is an OSError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS12_CIPHERS)
    context.load_verify_locations(cafile=settings.ca)
    if settings.cert is not None and settings.key is not None:
        memory = os.memfd_create("key")  # the ssl module reads keys from files only; this one has no name on disk
        try:
            os.write(memory, settings.key.reveal())
            context.load_cert_chain(settings.cert, f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
    return context


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message, made once and sent as often as needed."""

    topic: str
    payload: bytes
    content_type: str
    user_properties: tuple[tuple[str, str], ...] = ()
    is_retained: bool = False


class _Connection(aiomqtt.Client):
    """An aiomqtt client that knows the reason code of each PUBACK and can be dropped at any moment."""

    def __init__(self, uplink: str, **options: Any) -> None:
        super().__init__(**options)
        self._uplink = uplink
        self._acknowledgements: dict[int, asyncio.Future[int]] = {}
        self.receive_maximum = 65_535
        self.packet_size_max = 1 << 28
        self.lost: asyncio.Future[str] = self._loop.create_future()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.packet_size_max = getattr(properties, "MaximumPacketSize", self.packet_size_max)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        del client, userdata, properties
        waiter = self._acknowledgements.pop(mid, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(reason_code.value)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():  # aiomqtt would wait for a CONNACK that never comes
            self._connected.set_exception(
                aiomqtt.MqttError("the broker hung up before it said CONNACK; does it want a client certificate?")
            )
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._fail(_disconnect_text(reason_code))

    def _fail(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        waiters, self._acknowledgements = self._acknowledgements, {}
        for waiter in waiters.values():
            if not waiter.done():
                waiter.set_exception(UplinkDownError(self._uplink, why))

    async def deliver(self, message: Message) -> None:
        """Publish with QoS 1 and return after a PUBACK that means success.

        Raises:
            UplinkDownError: The connection was lost, or the broker wants a pause.
            UplinkRefusedError: The broker's PUBACK carries a reason code of 0x80 or above.
        """
        if self._disconnected.done() or self.lost.done():
            raise UplinkDownError(self._uplink, "the connection is lost")
        properties = MqttProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's stubs
        properties.ContentType = message.content_type
        if message.user_properties:
            properties.UserProperty = list(message.user_properties)
        info = self._client.publish(message.topic, message.payload, QOS, message.is_retained, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise UplinkDownError(self._uplink, f"cannot publish: {error_string(info.rc)}")
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._acknowledgements[info.mid] = waiter
        waiting: set[asyncio.Future[Any]] = {waiter, self._disconnected}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._acknowledgements.pop(info.mid, None)
        if not waiter.done():
            waiter.cancel()
            raise UplinkDownError(self._uplink, "the connection was lost before the broker acknowledged")
        code = waiter.result()
        if code in PAUSE_CODES:
            raise UplinkDownError(self._uplink, f"the broker wants a pause (PUBACK {code:#04x})", REFUSED_FIRST_S)
        if code >= REFUSAL_MIN:
            raise UplinkRefusedError(
                self._uplink,
                code,
                f"the broker refused {message.topic} (PUBACK {code:#04x}, {_reason_text(code)}): check its ACL",
            )

    def abandon(self) -> None:
        """Close the socket at once, whatever state the connection is in."""
        self._fail("the connection was given up")
        if self._disconnected.done():
            self._disconnected.exception()  # seen: asyncio need not complain
        with contextlib.suppress(OSError, ValueError):
            self._client._sock_close()  # noqa: SLF001  # paho offers no way to close without its goodbye
        if self._misc_task is not None:
            self._misc_task.cancel()


def _pass_cancel_on() -> None:
    """Raise a cancellation that ``asyncio.wait_for`` inside aiomqtt swallowed, as it may on Python 3.11 (gh-86296)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _disconnect_text(reason_code: Any) -> str:
    code = getattr(reason_code, "value", reason_code)
    if code == SESSION_TAKEN_OVER:
        return "another client uses our id: is a second gateway set up with this gateway.id?"
    return f"disconnected: {reason_code}"


def _reason_text(code: int) -> str:
    names = {0x80: "unspecified", 0x83: "implementation specific", 0x87: "not authorized", 0x90: "topic name invalid",
             0x91: "packet id in use", 0x97: "quota exceeded", 0x99: "payload format invalid"}  # fmt: skip
    return names.get(code, "refused")


class MqttUplink:
    """One broker and the delivery of our readings to it."""

    def __init__(self, parts: UplinkParts) -> None:
        self._parts = parts
        self._settings: MqttSettings = parts.settings
        self._topic = f"{TOPIC_PREFIX}/{parts.gateway_id}"
        self._sender = Sender(parts, self._encode)
        self._backoff = Backoff()
        self._refusals = Backoff(REFUSED_FIRST_S, REFUSED_MAX_S)
        self._packet_size_max = 1 << 28
        self._state = "connecting"
        self._detail = ""
        self._connected_since_s: float | None = None
        self._connections = 0
        self._short_lives = 0
        self._connection: _Connection | None = None
        self._stopping = False

    async def run(self) -> None:
        """Connect, deliver, and connect again, until cancelled."""
        while True:
            useful_s = 0.0
            retry_after_s = 0.0
            try:
                await self._run_connection()
            except UplinkError as error:
                useful_s = self._useful_s()
                retry_after_s = getattr(error, "retry_after_s", None) or 0.0
                self._set_state("down", str(error) + self._short_life_text())
            self._connected_since_s = None
            if self._stopping:
                return
            await asyncio.sleep(max(retry_after_s, self._backoff.next_delay_s(useful_s)))

    async def drain(self, deadline_s: float) -> None:
        """Wait until what is synced is acknowledged or ``deadline_s`` is over, then say goodbye properly."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                if self._connection is not None or self._state == "connecting":
                    await self._sender.caught_up()
        connection = self._connection
        if connection is not None and not connection.lost.done():
            with contextlib.suppress(UplinkError, TimeoutError):
                async with asyncio.timeout(max(1.0, deadline_s / 4)):
                    await connection.deliver(self._status_message("stopped"))

    def status(self) -> dict[str, object]:
        """Return what `litfass status` shows of this uplink."""
        sender = self._sender
        return {
            "type": "mqtt",
            "url": str(self._settings.url),
            "state": self._state,
            "detail": self._detail,
            "connections": self._connections,
            "cursor": sender.cursor,
            "backlog_records": sender.backlog_records,
            "records_delivered": sender.status.records_delivered,
            "batches_delivered": sender.status.batches_delivered,
            "batches_resent": sender.status.batches_resent,
            "gaps_delivered": sender.status.gaps_delivered,
            "refused": sender.status.refused,
            "last_refusal": sender.status.last_refusal,
            "last_delivery_ms": sender.status.last_delivery_ms,
        }

    def clock_became_known(self) -> None:
        """Try again at once: certificates that looked invalid may be valid now."""
        self._backoff.reset()

    # ---- one connection ------------------------------------------------------------------------------------------

    async def _run_connection(self) -> None:
        connection = await self._connect()
        self._connection = connection
        try:
            self._connections += 1
            self._connected_since_s = self._parts.clock.elapsed_s()
            self._packet_size_max = connection.packet_size_max
            self._sender.window = max(1, min(self._sender.window, connection.receive_maximum - 1))
            self._sender.recut_if(self._is_too_large)
            self._set_state("up", "")
            await self._serve(connection)
        finally:
            self._connection = None
            await self._close(connection)

    async def _connect(self) -> _Connection:
        settings = self._settings
        try:
            context = make_tls_context(settings) if settings.url.is_tls else None
        except OSError as error:
            raise UplinkDownError(self._parts.name, f"certificate or key unusable: {error}") from error
        connection = _Connection(
            self._parts.name,
            hostname=settings.url.address.host,
            port=settings.url.address.port,
            identifier=self._parts.gateway_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            username=settings.username,
            password=settings.password.reveal().decode("utf-8", "replace") if settings.password else None,
            keepalive=round(settings.keepalive),
            clean_start=True,
            timeout=CONNECT_TIMEOUT_S,
            will=aiomqtt.Will(f"{self._topic}/status", b'{"state":"offline"}', QOS, retain=True),
            tls_context=context,
            max_inflight_messages=self._sender.window + 4,
            socket_options=[
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS),
            ],
        )
        try:
            await connection.__aenter__()
            _pass_cancel_on()
        except aiomqtt.MqttError as error:
            connection.abandon()
            raise UplinkDownError(self._parts.name, self._connect_error_text(error)) from error
        except BaseException:
            connection.abandon()
            raise
        return connection

    def _connect_error_text(self, error: Exception) -> str:
        text = f"cannot connect to {self._settings.url}: {error}"
        if "certificate is not yet valid" in text or ("certificate has expired" in text):
            known = "" if self._parts.clock.is_known() else "our clock is not synchronised and may be wrong; "
            return f"{text} ({known}it is tried again)"
        return text

    async def _serve(self, connection: _Connection) -> None:
        """Publish status and readings until the connection fails; a refusal keeps the connection and tries later."""
        status = asyncio.create_task(self._publish_status(connection), name=f"uplink:{self._parts.name}:status")
        try:
            while True:
                delivered = self._sender.status.batches_delivered
                try:
                    await self._sender.run(connection)
                except UplinkRefusedError as error:
                    self._sender.status.refused += 1
                    self._sender.status.last_refusal = str(error)
                    if self._sender.status.batches_delivered > delivered:
                        self._refusals.reset()
                    self._set_state("refused", str(error))
                    await self._sleep_while_connected(connection, self._refusals.next_delay_s())
        finally:
            await cancel_and_wait([status], 1.0)

    async def _sleep_while_connected(self, connection: _Connection, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                why = await asyncio.shield(connection.lost)
                raise UplinkDownError(self._parts.name, why)

    async def _publish_status(self, connection: _Connection) -> None:
        while True:
            try:
                await connection.deliver(self._status_message("online"))
            except UplinkRefusedError as error:
                event(logger, logging.WARNING, "uplink.status_refused", str(error), uplink=self._parts.name)
            except UplinkDownError:
                return  # the sender notices too, and says why
            await asyncio.sleep(STATUS_INTERVAL_S)

    async def _close(self, connection: _Connection) -> None:
        """Say DISCONNECT where somebody listens (no last will then); give up the socket in any case."""
        try:
            if not connection.lost.done() and self._stopping:
                async with asyncio.timeout(2.0):
                    await connection.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError, OSError):
            pass
        finally:
            connection.abandon()

    # ---- messages ------------------------------------------------------------------------------------------------

    def _encode(self, item: Batch | Gap) -> Message:
        if isinstance(item, Gap):
            return self._gap_message(item)
        payload = encode_pack(item.records, self._parts.urn_of, self._parts.properties)
        message = Message(
            f"{self._topic}/readings",
            payload,
            CONTENT_TYPE,
            (
                ("epoch", str(item.epoch)),
                ("first-seq", str(item.seq_first)),
                ("last-seq", str(item.seq_last)),
                ("count", str(len(item))),
            ),
        )
        if self._is_too_large(message) and len(item) > 1:
            raise BatchTooLargeError(f"{len(payload)} octets")
        return message

    def _is_too_large(self, message: Message) -> bool:
        return len(message.payload) + PACKET_OVERHEAD_SIZE > self._packet_size_max

    def _gap_message(self, gap: Gap) -> Message:
        text = {
            "epoch": gap.epoch,
            "first": gap.seq_first,
            "last": gap.seq_last,
            "count": gap.count,
            "from": gap.from_ms,
            "to": gap.to_ms,
            "cause": str(getattr(gap.cause, "value", gap.cause)),
        }
        return Message(f"{self._topic}/gap", json.dumps(text, separators=(",", ":")).encode(), "application/json")

    def _status_message(self, state: str) -> Message:
        text = {"state": state, **self._parts.health(), "backlog_records": self._sender.backlog_records}
        return Message(f"{self._topic}/status", json.dumps(text).encode(), "application/json", is_retained=True)

    # ---- state ---------------------------------------------------------------------------------------------------

    def _useful_s(self) -> float:
        since_s = self._connected_since_s
        last_ms = self._sender.status.last_delivery_ms
        if since_s is None or last_ms is None:
            return 0.0
        return self._parts.clock.elapsed_s() - since_s

    def _short_life_text(self) -> str:
        """Return a guess why connections are lost right after they were made; not every broker sends 0x8E."""
        since_s = self._connected_since_s
        if since_s is None:
            return ""
        is_short = self._parts.clock.elapsed_s() - since_s < SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives < SHORT_LIVES_SUSPICIOUS:
            return ""
        return (
            f"; lost again and again right after connecting: does a second gateway use the id {self._parts.gateway_id}?"
        )

    def _set_state(self, state: str, detail: str) -> None:
        if (state, detail) == (self._state, self._detail):
            return
        level = logging.INFO if state == "up" else logging.WARNING
        message = detail or f"{self._parts.name}: connected to {self._settings.url}"
        event(logger, level, f"uplink.{state}", message, uplink=self._parts.name, backlog=self._sender.backlog_records)
        self._state, self._detail = state, detail


MQTT = UplinkType(summary="MQTT 5 broker, SenML packs", settings=MqttSettings, build=MqttUplink, check=check_settings)
