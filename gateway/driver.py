"""All a driver is given, must offer, and may raise. Drivers import this, `gateway.reading` and `gateway.profile`.

A driver owns one bus or radio. It turns frames into readings and hands them to its sink; it never sees the ring or an
uplink. Its package offers a `DriverType` under the entry point group ``litfass.drivers``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.clock import Clock, SystemClock, TimeStamp
from gateway.errors import (
    DeviceError,
    FrameError,
    FrameReason,
    LinkError,
    LinkReason,
    NoReplyError,
    ReplayError,
)
from gateway.profile import Decoder, Profile
from gateway.reading import Reading
from gateway.settings import (
    Address,
    Secret,
    WrongValueError,
    address,
    boolean,
    choice,
    duration,
    hex_octets,
    integer,
    list_of,
    number,
    one_of_integers,
    secret,
    setting,
    text,
)

__all__ = [
    "Address", "Clock", "Decoder", "Device", "DeviceError", "Driver", "DriverParts", "DriverType", "FrameError",
    "FrameReason", "LinkError", "LinkReason", "MemoryValue", "NoReplyError", "NoSettings", "Problem", "ReadingSink",
    "ReplayError", "Secret", "SystemClock", "TimeStamp", "WrongValueError", "address", "boolean", "choice", "duration",
    "hex_octets", "integer", "list_of", "number", "one_of_integers", "secret", "setting", "text",
]  # fmt: skip

MemoryValue = int | str | bytes
"""What a driver may remember: an integer of 64 bits, or a text or octets of at most 4,096 octets."""


@dataclass(frozen=True, slots=True)
class NoSettings:
    """For tables that have no keys of their own."""


@dataclass(frozen=True, slots=True)
class Device:
    """One listed device, as a driver sees it.

    Attributes:
        device_id: The name the city gave it.
        profile: Its type.
        every_s: How often it is polled or should report, in seconds; None where nobody says.
        settings: The driver's own keys of its ``[[device]]`` table, an instance of ``DriverType.device_settings``.
    """

    device_id: str
    profile: Profile
    every_s: float | None
    settings: Any


class ReadingSink(Protocol):
    """Where a driver's readings and faults go."""

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        """Store readings and tell whether the frame may be acknowledged.

        Args:
            readings: All readings of one frame, in the order the device gave them; may be empty.
            memory: What the driver must know after a restart, stored in the same commit as the readings
                (``{"f_cnt_up/isar-pegel-3": 42}``). Drivers share one table: a key names its device.

        Returns:
            True: a SIGKILL can no longer take them. False: the disk is slow or fails; they are kept in memory and
            stored as soon as it works, but nobody should rely on them yet.
        """
        ...

    def recall(self, key: str) -> MemoryValue | None:
        """Return what the driver last stored under ``key``, also before a restart; None if nothing."""
        ...

    def reject(self, error: DeviceError) -> None:
        """Count and log (once per burst) a frame or device at fault. The driver goes on."""
        ...

    def count(self, counter: str, by: int = 1) -> None:
        """Raise a counter shown by ``litfass status``, such as ``unlisted`` or ``duplicate``."""
        ...

    def link_up(self, detail: str) -> None:
        """Tell that port, adapter or socket is open (``detail`` for people: ``/dev/ttyUSB0 at 9600 8N1``)."""
        ...


class Driver(Protocol):
    """One bus or radio with its devices."""

    async def run(self, sink: ReadingSink) -> None:
        """Work until cancelled. A LinkError escapes: the supervisor runs it again after a growing delay."""
        ...


@dataclass(frozen=True, slots=True)
class DriverParts:
    """What a driver is built from: its name, its settings (an instance of ``DriverType.settings``), its devices."""

    name: str
    settings: Any
    devices: Sequence[Device]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong or risky that shows only when settings and devices are seen together.

    Attributes:
        device_id: The device it is about, None for the driver itself.
        key: The settings key it is about.
        found: What stands there.
        expected: What would be right.
        is_warning: It works, but should be known.
    """

    device_id: str | None
    key: str
    found: str
    expected: str
    is_warning: bool = False


def no_problems(settings: Any, devices: Sequence[Device]) -> Iterable[Problem]:
    """Find nothing: for drivers whose keys cannot contradict each other."""
    del settings, devices
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverType:
    """What a driver package offers under ``litfass.drivers``; the entry point's name is the ``type`` in settings.

    Attributes:
        summary: One line for ``litfass check`` and the docs.
        settings: Dataclass of the further keys of its ``[[driver]]`` table.
        device_settings: Dataclass of the further keys of a ``[[device]]`` table behind it.
        decoders: The decoders its profiles may name.
        build: Makes the driver; opens nothing yet.
        check: Looks at settings and devices together.
    """

    summary: str
    settings: type[Any]
    device_settings: type[Any]
    decoders: tuple[Decoder, ...]
    build: Callable[[DriverParts], Driver]
    check: Callable[[Any, Sequence[Device]], Iterable[Problem]] = no_problems
