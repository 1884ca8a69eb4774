"""Settings for a gateway under test, and the judgement of what the city got."""

import collections
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from tests.support.city import City
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess, free_udp_port
from tests.support.sensors import NumberedSensor

GATEWAY_ID = "gw-test-01"
URN = f"urn:dev:org:32473-{GATEWAY_ID}"
ACL = """\
user city
topic readwrite litfass/#
pattern write litfass/%u/readings
pattern write litfass/%u/gap
pattern write litfass/%u/status
"""


@dataclass
class Settings:
    """A settings file in the making."""

    folder: pathlib.Path
    gateway_id: str = GATEWAY_ID
    udp_port: int = field(default_factory=free_udp_port)
    sync: str = "100ms"
    _parts: list[str] = field(default_factory=list)

    def lora(self, *sensors: NumberedSensor) -> Self:
        """Add the driver that packet forwarders send to, and these sensors."""
        self.add(f'[[driver]]\nname = "lora"\ntype = "lorawan-udp"\nlisten = "127.0.0.1:{self.udp_port}"\n')
        for sensor in sensors:
            self.add(sensor.settings())
        return self

    def uplink(self, broker: Mosquitto, *, port: int = 0, keepalive: str = "60s", name: str = "city") -> Self:
        """Add the way to a broker, with a certificate of our own where it wants one; ``port`` leads through a proxy."""
        url = broker.url.replace(str(broker.port), str(port or broker.port))
        text = f'[[uplink]]\nname = "{name}"\ntype = "mqtt"\nurl = "{url}"\nkeepalive = "{keepalive}"\n'
        if broker.pki is not None:
            cert, key = broker.pki.client(self.gateway_id)
            text += f'ca = "{broker.pki.ca_path}"\ncert = "{cert}"\nkey = "file:{key}"\n'
        return self.add(text)

    def add(self, text: str) -> Self:
        """Add more tables."""
        self._parts.append(text)
        return self

    def write(self) -> pathlib.Path:
        """Write the file and return its path."""
        head = (
            f'[gateway]\nid = "{self.gateway_id}"\nstate_dir = "state"\n\n[ring]\nsize = "8MiB"\nsync = "{self.sync}"\n'
        )
        path = self.folder / "litfass.toml"
        path.write_text("\n".join([head, *self._parts]))
        return path


def sensors(*frames_each: int) -> list[NumberedSensor]:
    """Return sensors that send so many frames in each datagram."""
    return [NumberedSensor(f"pegel-{n}", 0x26010000 + n, each) for n, each in enumerate(frames_each, 1)]


def numbers_of(city: City, sensor: NumberedSensor) -> list[int]:
    """Return the frame numbers the city got from ``sensor``, once for each identity it got them under."""
    name = f"{URN}:{sensor.device_id}:distance/1"
    return [round(record["v"] * 1000) for record in city.by_identity().values() if record["name"] == name]


@dataclass(frozen=True)
class Verdict:
    """What the city makes of all it received."""

    lost: dict[str, list[int]]
    stored_twice: dict[str, list[int]]
    holes: list[int]
    split_seqs: list[int]
    received: int
    repeats: int

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.stored_twice or self.holes or self.split_seqs)

    def __str__(self) -> str:
        faults = {"lost": self.lost, "stored twice": self.stored_twice}
        parts = [f"{what} of {device}: {_few(found)}" for what in faults for device, found in faults[what].items()]
        if self.holes:
            parts.append(f"seqs that never came: {_few(self.holes)}")
        if self.split_seqs:
            parts.append(f"seqs with two epochs: {_few(self.split_seqs)}")
        return "; ".join([*parts, f"{self.received} readings, {self.repeats} repeats"])


def _few(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{len(numbers)} ({shown}{', …' if len(numbers) > 8 else ''})"


def judge(city: City, sensors: Iterable[NumberedSensor]) -> Verdict:
    """Count everything: acknowledged frames that never came, frames under two identities, seqs without a record.

    `City.by_identity` fails where an identity came twice with different content.
    """
    lost: dict[str, list[int]] = {}
    twice: dict[str, list[int]] = {}
    for sensor in sensors:
        counted = collections.Counter(numbers_of(city, sensor))
        if missing := sorted(sensor.acknowledged - counted.keys()):
            lost[sensor.device_id] = missing
        if doubled := sorted(number for number, count in counted.items() if count > 1):
            twice[sensor.device_id] = doubled
    identities = city.identities
    distinct = set(identities)
    seqs = sorted(seq for _, seq in distinct)
    holes = sorted(set(range(seqs[0], seqs[-1] + 1)) - set(seqs)) if seqs else []
    split = sorted(seq for seq, count in collections.Counter(seqs).items() if count > 1)
    return Verdict(lost, twice, holes, split, len(distinct), len(identities) - len(distinct))


def until_all_arrived(gateway: GatewayProcess, city: City) -> None:
    """Return once the city has every record the gateway's ring holds; no more may be arriving there."""
    head_seq = gateway.until_delivered()
    city.wait_for(lambda: bool(city.packs) and max(pack.last for pack in city.packs) + 1 >= head_seq)
