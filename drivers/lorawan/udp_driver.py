"""The UDP server that packet forwarders send to. It acknowledges what is stored, and nothing else."""

import asyncio
import errno
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from drivers.lorawan import gwmp
from drivers.lorawan.receiver import Reception, UplinkReceiver
from drivers.lorawan.settings import Forwarder, UdpSettings
from gateway.driver import Clock, DriverParts, FrameError, LinkError, LinkReason, ReadingSink

INBOX_DATAGRAMS_MAX = 32  # at most 1.3 MB wait while the ring is slow; beyond, datagrams are dropped and counted
TIME_AHEAD_MAX_MS = 2_000  # a concentrator's GNSS time may be this far ahead of our clock: the clock's own error
TIME_BEHIND_MAX_MS = 86_400_000  # and this far behind: a forwarder that kept frames while its backhaul was down
_LINK_REASONS = {errno.EADDRINUSE: LinkReason.BUSY, errno.EACCES: LinkReason.DENIED, errno.EPERM: LinkReason.DENIED}
_LINK_HINTS = {
    LinkReason.BUSY: "another program listens there: ss -ulpn",
    LinkReason.DENIED: "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE",
    LinkReason.ABSENT: "this machine has no such address: ip address",
}

Peer = tuple[str, int]  # host and port; IPv6 brings two members more, which sendto wants back


@dataclass(frozen=True, slots=True)
class _Datagram:
    octets: bytes
    token: bytes
    peer: Peer
    received_time_ms: int


def phenomenon_time_ms(time_ms: int | None, received_time_ms: int) -> int:
    """Return when a frame's readings were true: the concentrator's GNSS time where it is sane, else the arrival.

    Args:
        time_ms: What the forwarder claims, None if nothing.
        received_time_ms: When the datagram arrived, by our clock.
    """
    if time_ms is None:
        return received_time_ms
    if not received_time_ms - TIME_BEHIND_MAX_MS <= time_ms <= received_time_ms + TIME_AHEAD_MAX_MS:
        return received_time_ms
    return min(time_ms, received_time_ms)  # never heard before it was true


class _Inbox(asyncio.DatagramProtocol):
    """Takes datagrams off the socket, turns strangers away, keeps the rest in order for the driver."""

    def __init__(self, name: str, forwarders: Sequence[Forwarder], clock: Clock, sink: ReadingSink) -> None:
        self._name = name
        self._forwarders = forwarders
        self._clock = clock
        self._sink = sink
        self._waiting: deque[_Datagram] = deque()
        self._arrived = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._fault: LinkError | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # which it is in all but its bases (3.11)

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        try:
            header = gwmp.parse_header(data)
            if self._forwarders and not any(f.admits(header.gateway_eui, addr[0]) for f in self._forwarders):
                self._sink.count("unlisted_forwarder")
            elif header.type is gwmp.Type.PULL_DATA:
                self.send(gwmp.encode_pull_ack(header.token), addr)
            elif header.type is gwmp.Type.TX_ACK:
                gwmp.parse_tx_ack(data)
                self._sink.count("tx_ack")
            elif len(self._waiting) >= INBOX_DATAGRAMS_MAX:
                self._sink.count("overrun")
            else:
                self._waiting.append(_Datagram(data, header.token, addr, self._clock.wall_ms()))
                self._arrived.set()
        except FrameError as error:
            self._sink.reject(error)

    def error_received(self, exc: Exception) -> None:
        del exc  # a forwarder that is gone before our answer came; nothing to mend here
        self._sink.count("unreachable")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fault = LinkError(self._name, LinkReason.LOST, f"socket lost: {exc}")
        self.closed.set()
        self._arrived.set()

    def send(self, octets: bytes, peer: Peer) -> None:
        """Send an answer; where nobody listens any more it is lost, as datagrams are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(octets, peer)

    async def next(self) -> _Datagram:
        """Return the oldest PUSH_DATA that waits.

        Raises:
            LinkError: The socket is lost.
        """
        while not self._waiting:
            if self._fault is not None:
                raise self._fault
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


class LorawanUdpDriver:
    """The server that packet forwarders send to (Semtech UDP protocol)."""

    def __init__(self, parts: DriverParts) -> None:
        settings: UdpSettings = parts.settings
        self._name = parts.name
        self._listen = settings.listen
        self._forwarders = [Forwarder.parse(entry) for entry in settings.forwarders]
        self._clock = parts.clock
        self._receiver = UplinkReceiver(parts.devices, parts.clock)

    async def run(self, sink: ReadingSink) -> None:
        """Receive until cancelled. A LinkError escapes: the supervisor opens the socket again."""
        self._receiver.recall(sink)
        inbox = _Inbox(self._name, self._forwarders, self._clock, sink)
        transport = await self._open(inbox)
        try:
            host, port = transport.get_extra_info("sockname")[:2]
            sink.link_up(f"UDP {host} port {port}")
            while True:
                datagram = await inbox.next()
                await self._take(datagram, inbox, sink)
                await asyncio.sleep(0)  # a flood must not keep the loop from the other drivers
        finally:
            transport.abort()
            await inbox.closed.wait()  # set by the loop's next turn; then the address is free again

    async def _open(self, inbox: _Inbox) -> asyncio.DatagramTransport:
        listen = self._listen
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: inbox, local_addr=(listen.host, listen.port)
            )
        except OSError as error:
            reason = _LINK_REASONS.get(error.errno or 0, LinkReason.ABSENT)
            message = f"{listen} cannot be opened: {error.strerror}; {_LINK_HINTS[reason]}"
            raise LinkError(self._name, reason, message) from error
        return transport

    async def _take(self, datagram: _Datagram, inbox: _Inbox, sink: ReadingSink) -> None:
        """Store what a PUSH_DATA brought, then acknowledge it; nothing else gets an answer."""
        try:
            push = gwmp.parse_push_data(datagram.octets)
        except FrameError as error:
            sink.reject(error)
            return
        sink.count("bad_crc", push.bad_crc_count)
        for fault in push.faults:
            sink.reject(fault)
        packets = _best_copies(push.packets)
        sink.count("duplicate", len(push.packets) - len(packets))
        is_stored = True
        for packet in packets:
            reception = Reception(
                phy_payload=packet.phy_payload,
                phenomenon_time_ms=phenomenon_time_ms(packet.time_ms, datagram.received_time_ms),
                received_time_ms=datagram.received_time_ms,
                rssi_dbm=packet.rssi_dbm,
                snr_db=packet.snr_db,
            )
            is_stored &= await self._receiver.take(reception, sink)
        if is_stored:  # acknowledge what you own
            inbox.send(gwmp.encode_push_ack(datagram.token), datagram.peer)


def _best_copies(packets: Sequence[gwmp.RxPacket]) -> Sequence[gwmp.RxPacket]:
    """Return each PHYPayload once, as the strongest of its copies: several antennas may report one frame."""
    best: dict[bytes, gwmp.RxPacket] = {}
    for packet in packets:
        known = best.get(packet.phy_payload)
        if known is None or _strength(packet) > _strength(known):
            best[packet.phy_payload] = packet  # keeps its place in the order
    return list(best.values())


def _strength(packet: gwmp.RxPacket) -> tuple[float, float]:
    nothing = float("-inf")
    return (
        nothing if packet.rssi_dbm is None else packet.rssi_dbm,
        nothing if packet.snr_db is None else packet.snr_db,
    )
