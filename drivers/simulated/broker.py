"""The city's MQTT broker: Mosquitto where it is installed, else a small one of our own. Loopback only.

Both can be stopped and started again on the same port; sessions and what is queued for them outlive that, as they do
in a city's data centre. amqtt, the usual embedded broker, speaks MQTT 3.1.1 only.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import pathlib
import pwd
import shutil
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from drivers.simulated import mqtt5
from drivers.simulated.mqtt5 import Message, PacketType, ProtocolError, ReasonCode

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
SESSIONS_MAX = 64  # clients known at a time; a street has two
QUEUE_MAX = 100_000  # messages kept for one absent client
_PROBE_S = 0.02  # how often a starting Mosquitto is asked whether it listens
_SBIN = "/usr/local/sbin:/usr/sbin"  # where Debian puts it, outside people's PATH

logger = logging.getLogger(__name__)


class Broker(Protocol):
    """A broker that can be stopped and started.

    Attributes:
        title: For people.
        port: TCP port on this machine.
    """

    title: str
    port: int

    async def start(self) -> None:
        """Listen; on return clients can connect."""
        ...

    async def stop(self) -> None:
        """End all connections and stop listening. May be called twice."""
        ...


def mosquitto_path() -> str | None:
    """Return where Mosquitto is installed, None if it is not."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def make_broker(kind: str, folder: pathlib.Path, port: int = 0) -> Broker:
    """Return a broker, not started yet.

    Args:
        kind: ``mosquitto`` or ``embedded``.
        folder: Where Mosquitto keeps its files.
        port: TCP port; 0 for a free one.

    Raises:
        OSError: ``mosquitto`` is wanted and not installed, or the port is in use.
    """
    port = _claim(port)
    if kind == "embedded":
        return EmbeddedBroker(port)
    path = mosquitto_path()
    if path is None:
        raise FileNotFoundError("Mosquitto is not installed: apt install mosquitto, or --broker embedded")
    return MosquittoBroker(path, folder, port)


async def start_broker(kind: str, folder: pathlib.Path, port: int = 0) -> Broker:
    """Return a broker that listens; with ``auto`` Mosquitto, and our own where that is not to be had.

    Raises:
        OSError: It cannot be started.
    """
    wanted = kind
    if kind == "auto":
        wanted = "mosquitto" if mosquitto_path() else "embedded"
    broker = make_broker(wanted, folder, port)
    try:
        await broker.start()
    except OSError as error:
        await broker.stop()
        if kind != "auto" or isinstance(broker, EmbeddedBroker):
            raise
        logger.warning("Mosquitto cannot be used: %s", error)
        broker = make_broker("embedded", folder, broker.port)
        await broker.start()
    return broker


def _claim(port: int) -> int:
    """Return a port that was free a moment ago.

    Raises:
        OSError: ``port`` is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])


class MosquittoBroker:
    """The broker most cities run, as a process of its own."""

    def __init__(self, path: str, folder: pathlib.Path, port: int) -> None:
        self.title = "Mosquitto"
        self.port = port
        self._path = path
        self._settings = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        self._process: asyncio.subprocess.Process | None = None
        self._settings.write_text(
            f"listener {port} {HOST}\n"
            "allow_anonymous true\n"
            f"user {pwd.getpwuid(os.getuid()).pw_name}\n"  # as root it would else become a user who may not write here
            "persistence true\n"
            f"persistence_location {folder}/\n"
            "max_queued_messages 0\n"  # 0: no bound on what waits for an absent subscriber
            "max_inflight_messages 0\n"
            f"log_dest file {self._log}\n"
        )

    async def start(self) -> None:
        """Start the process and wait until it listens.

        Raises:
            OSError: It ended at once, or does not listen in time; the message is its own.
        """
        assert self._process is None
        process = await asyncio.create_subprocess_exec(
            *(self._path, "-c", str(self._settings)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the demo; it ends its broker in order
        )
        self._process = process
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._is_listening():
                    if process.returncode is not None:
                        raise OSError(f"Mosquitto ended with exit code {process.returncode}: {self._last_words()}")
                    await asyncio.sleep(_PROBE_S)
        except TimeoutError:
            raise OSError(f"Mosquitto does not listen after {START_TIMEOUT_S:g} s: {self._last_words()}") from None

    async def stop(self) -> None:
        """End the process; it writes its sessions to disk before."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        return "no log"


# ---- our own ---------------------------------------------------------------------------------------------------------


@dataclass
class _Session:
    """What the broker keeps for one client, connected or not [4.1]."""

    client_id: str
    filters: dict[str, int] = field(default_factory=dict)
    waiting: deque[Message] = field(default_factory=deque)
    in_flight: dict[int, Message] = field(default_factory=dict)
    packet_ids: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, 0x10000)))
    receive_maximum: int = 0xFFFF
    is_kept: bool = False
    writer: asyncio.StreamWriter | None = None

    def enqueue(self, message: Message) -> None:
        """Hand a message to the client: at once, or when it is back and has room."""
        if self.writer is not None and not message.qos:
            self.writer.write(mqtt5.publish(message, 0))
        elif message.qos and len(self.waiting) < QUEUE_MAX:
            self.waiting.append(message)
            self.send_waiting()

    def send_waiting(self) -> None:
        """Send what waits, as far as the client's receive maximum allows."""
        while self.writer is not None and self.waiting and len(self.in_flight) < self.receive_maximum:
            message = self.waiting.popleft()
            packet_id = next(number for number in self.packet_ids if number not in self.in_flight)
            self.in_flight[packet_id] = message
            self.writer.write(mqtt5.publish(message, packet_id))

    def resend(self) -> None:
        """Send again what the client had not acknowledged when it was cut off [4.4]."""
        assert self.writer is not None
        for packet_id, message in self.in_flight.items():
            self.writer.write(mqtt5.publish(message, packet_id, is_repeat=True))


class EmbeddedBroker:
    """A broker in this process: MQTT 5, quality 0 and 1, retained messages, wills, sessions that outlive a stop."""

    def __init__(self, port: int) -> None:
        self.title = "a small MQTT 5 broker of the demo's own"
        self.port = port
        self._server: asyncio.Server | None = None
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, Message] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._guests = itertools.count(1)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is in use.
        """
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def stop(self) -> None:
        """Cut all connections off, as a power cut at the data centre does: nobody says goodbye."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except ProtocolError as error:
            logger.warning("broker: %s", error)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client went away
        except asyncio.CancelledError:
            pass  # `stop`; asyncio.Server would log a handler's cancellation as an error
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, _, body = await _read_packet(reader, START_TIMEOUT_S)
        if kind != PacketType.CONNECT:
            raise ProtocolError(ReasonCode.MALFORMED_PACKET, "the first packet is no CONNECT")
        try:
            connect = mqtt5.read_connect(body)
        except ProtocolError as error:
            writer.write(mqtt5.connack(error.code))
            await writer.drain()
            raise
        session = self._open_session(connect, writer)
        silence_max_s = connect.keepalive_s * 1.5 if connect.keepalive_s else None
        will = connect.will
        try:
            while True:
                kind, flags, body = await _read_packet(reader, silence_max_s)
                if kind == PacketType.DISCONNECT:
                    will = will if mqtt5.read_disconnect(body) == ReasonCode.DISCONNECT_WITH_WILL else None
                    return
                self._handle(session, writer, kind, flags, body)
                await writer.drain()
        finally:
            if session.writer is writer:
                session.writer = None
                if not session.is_kept:
                    self._sessions.pop(session.client_id, None)
            if will is not None and self._server is not None:
                self._route(will)

    def _open_session(self, connect: mqtt5.Connect, writer: asyncio.StreamWriter) -> _Session:
        client_id = connect.client_id or f"guest-{next(self._guests)}"
        old = self._sessions.get(client_id)
        if old is not None and old.writer is not None:
            old.writer.write(mqtt5.disconnect(ReasonCode.SESSION_TAKEN_OVER))
            old.writer.close()
            old.writer = None
        if old is None and len(self._sessions) >= SESSIONS_MAX:
            raise ProtocolError(ReasonCode.PACKET_TOO_LARGE, f"more than {SESSIONS_MAX} clients")
        is_present = old is not None and not connect.is_clean_start
        session = old if old is not None and is_present else _Session(client_id)
        self._sessions[client_id] = session
        session.is_kept = connect.session_expiry_s > 0
        session.receive_maximum = connect.receive_maximum
        session.writer = writer
        assigned_id = "" if connect.client_id else client_id
        writer.write(mqtt5.connack(ReasonCode.SUCCESS, is_session_present=is_present, assigned_id=assigned_id))
        session.resend()
        session.send_waiting()
        return session

    def _handle(
        self, session: _Session, writer: asyncio.StreamWriter, kind: PacketType, flags: int, body: bytes
    ) -> None:
        if kind == PacketType.PUBLISH:
            packet_id, message = mqtt5.read_publish(flags, body)
            self._route(message)
            if message.qos:
                writer.write(mqtt5.acknowledgement(PacketType.PUBACK, packet_id))
        elif kind == PacketType.PUBACK:
            session.in_flight.pop(mqtt5.read_puback(body), None)
            session.send_waiting()
        elif kind == PacketType.SUBSCRIBE:
            subscribe = mqtt5.read_subscribe(body)
            session.filters.update(subscribe.filters)
            codes = tuple(qos for _, qos in subscribe.filters)  # granted as asked
            writer.write(mqtt5.acknowledgement(PacketType.SUBACK, subscribe.packet_id, codes))
            for topic_filter, qos in subscribe.filters:
                for message in self._retained.values():
                    if mqtt5.matches(topic_filter, message.topic):
                        session.enqueue(_at_most(message, qos, is_retained=True))
        elif kind == PacketType.UNSUBSCRIBE:
            packet_id, filters = mqtt5.read_unsubscribe(body)
            known = [session.filters.pop(topic_filter, None) is not None for topic_filter in filters]
            codes = tuple(ReasonCode.SUCCESS if was else ReasonCode.NO_SUBSCRIPTION_EXISTED for was in known)
            writer.write(mqtt5.acknowledgement(PacketType.UNSUBACK, packet_id, codes))
        elif kind == PacketType.PINGREQ:
            writer.write(mqtt5.pingresp())
        else:
            raise ProtocolError(ReasonCode.MALFORMED_PACKET, f"{kind.name} from a client")

    def _route(self, message: Message) -> None:
        """Keep a retained message, and queue it for every session that asked for its topic."""
        if message.is_retained:
            if message.payload:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)
        for session in self._sessions.values():
            granted = [qos for wanted, qos in session.filters.items() if mqtt5.matches(wanted, message.topic)]
            if granted:
                session.enqueue(_at_most(message, max(granted), is_retained=False))


def _at_most(message: Message, qos: int, *, is_retained: bool) -> Message:
    return Message(message.topic, message.payload, min(message.qos, qos), is_retained, message.properties)


async def _read_packet(reader: asyncio.StreamReader, timeout_s: float | None) -> tuple[PacketType, int, bytes]:
    """Return type, flags and body of the next packet.

    Raises:
        ProtocolError: No such packet, or larger than announced.
        TimeoutError: The client is silent for longer than it promised.
        asyncio.IncompleteReadError: The client went away.
    """
    async with asyncio.timeout(timeout_s):
        (first,) = await reader.readexactly(1)
        size = shift = 0
        while True:
            (octet,) = await reader.readexactly(1)
            size |= (octet & 0x7F) << shift
            shift += 7
            if not octet & 0x80:
                break
            if shift > 21:
                raise ProtocolError(ReasonCode.MALFORMED_PACKET, "a remaining length of more than four octets")
        if size > mqtt5.PACKET_SIZE_MAX:
            raise ProtocolError(ReasonCode.PACKET_TOO_LARGE, f"a packet of {size} octets")
        body = await reader.readexactly(size)
    try:
        return PacketType(first >> 4), first & 0x0F, body
    except ValueError:
        raise ProtocolError(ReasonCode.MALFORMED_PACKET, f"packet type {first >> 4}") from None
