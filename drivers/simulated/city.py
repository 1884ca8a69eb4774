"""The city's data platform: subscribes, resolves SenML, drops repeats, and knows what is missing."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from drivers.simulated.senml import PackError, SenmlRecord, resolve_pack
from gateway.driver import Clock

TOPICS = ("litfass/+/readings", "litfass/+/gap", "litfass/+/status")
SESSION_EXPIRY_S = 3600  # the broker keeps for us what comes while we are away
RECONNECT_S = 0.1
_COVERAGE_PROPERTIES = ("epoch", "first-seq", "last-seq", "count")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One reading as the city got it.

    Attributes:
        seq: Its number in the gateway's ring.
        device_id: Last part of the device's URN.
        observed_property: What was measured.
        value: In ``unit``.
        unit: SenML unit, which is not always the one the gateway shows.
        phenomenon_time_s: When it was true, seconds since 1970.
        received_s: When the city got it, likewise.
    """

    seq: int
    device_id: str
    observed_property: str
    value: float | str | bool
    unit: str
    phenomenon_time_s: float
    received_s: float


@dataclass
class Ledger:
    """What arrived, by the identity that makes repeats harmless: (epoch, seq) of one gateway. Pure.

    Attributes:
        newest: The last reading of each device and property.
        received: Readings of each device, repeats not counted.
        pack_count: Packs taken.
        repeat_count: Readings that had arrived before.
        faults: What was wrong with packs, newest last.
    """

    newest: dict[tuple[str, str], Arrival] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    pack_count: int = 0
    repeat_count: int = 0
    faults: list[str] = field(default_factory=list)
    _seqs: dict[int, set[int]] = field(default_factory=dict)

    def take(self, octets: bytes, user_properties: Mapping[str, str], received_s: float) -> list[Arrival]:
        """Return the readings of one pack that are new. A pack the platform cannot trust is noted and left out."""
        try:
            epoch, first, last, count = (int(user_properties[name]) for name in _COVERAGE_PROPERTIES)
            records = resolve_pack(octets, received_s)
            if len(records) != count or last - first + 1 != count:
                raise PackError(f"{len(records)} records, announced {count} for seq {first} to {last}")
        except KeyError as error:
            self.faults.append(f"a pack without user property {error}")
            return []
        except ValueError as error:
            self.faults.append(str(error))
            return []
        self.pack_count += 1
        known = self._seqs.setdefault(epoch, set())
        new = []
        for seq, record in enumerate(records, first):
            if seq in known:
                self.repeat_count += 1
                continue
            known.add(seq)
            arrival = _arrival(seq, record, received_s)
            self.received[arrival.device_id] += 1
            self.newest[arrival.device_id, arrival.observed_property] = arrival
            new.append(arrival)
        return new

    @property
    def reading_count(self) -> int:
        """How many different readings arrived."""
        return self.received.total()

    @property
    def seq_last(self) -> int | None:
        """The highest seq of the newest epoch, None before the first."""
        return max(self._seqs[max(self._seqs)]) if self._seqs else None

    def missing(self) -> Sequence[tuple[int, int]]:
        """Return the holes, first and last seq of each: numbers that were given and never arrived."""
        holes = []
        for seqs in self._seqs.values():
            ordered = sorted(seqs)
            holes += [(low + 1, high - 1) for low, high in itertools.pairwise(ordered) if high > low + 1]
        return holes


def _arrival(seq: int, record: SenmlRecord, received_s: float) -> Arrival:
    urn, _, observed_property = record.name.rpartition(":")
    device_id = urn.rpartition(":")[2]
    return Arrival(seq, device_id, observed_property, record.value, record.unit, record.time_s, received_s)


@dataclass
class City:
    """The subscriber, from connection to connection.

    Attributes:
        port: The broker's.
        clock: The city's time.
        on_arrivals: Called with the new readings of each pack.
        ledger: What arrived.
        is_connected: The broker is there.
        gateway_state: What the gateway's retained status says of it, or its last will.
    """

    port: int
    clock: Clock
    on_arrivals: Callable[[Sequence[Arrival]], None] = lambda _: None
    ledger: Ledger = field(default_factory=Ledger)
    is_connected: bool = False
    gateway_state: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _subscribed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Subscribe and take what comes, until cancelled; a lost broker is tried again and again."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._run_connection()
            self.is_connected = False
            await asyncio.sleep(RECONNECT_S)

    async def subscribed(self) -> None:
        """Return once the broker knows what we want: from then on nothing published is lost to us."""
        await self._subscribed.wait()

    async def next_change(self) -> None:
        """Return after the next pack."""
        self._changed.clear()
        await self._changed.wait()

    async def _run_connection(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's stubs
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        client = aiomqtt.Client(
            "127.0.0.1",
            self.port,
            identifier="city-platform",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
        )
        async with client:
            await client.subscribe([(topic, 1) for topic in TOPICS])
            self.is_connected = True
            self._subscribed.set()
            async for message in client.messages:
                self._take(message)

    def _take(self, message: aiomqtt.Message) -> None:
        octets = message.payload
        kind = message.topic.value.rpartition("/")[2]
        if kind == "readings":
            properties = dict(getattr(message.properties, "UserProperty", []))
            arrivals = self.ledger.take(octets, properties, self.clock.wall_ms() / 1000)
            self.on_arrivals(arrivals)
        elif kind == "gap":
            self.ledger.faults.append(f"the gateway reports a gap: {octets.decode(errors='replace')}")
        else:
            self.gateway_state = octets.decode(errors="replace")
        self._changed.set()
