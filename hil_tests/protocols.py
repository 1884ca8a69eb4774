"""What the parts of a bench can do, whatever they are made of. Scenarios use these and nothing else.

resource   what is plugged in         a table of the bench's YAML file
protocol   what it can do             a class here
driver     how it does it             desk.py for ptys and processes; others for a QEMU guest or a real Pi
strategy   how to reach a named state strategy.py
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Gateway(Protocol):
    """The box under test."""

    def power_on(self) -> None:
        """Switch it on and return when it is ready."""
        ...

    def power_off(self) -> None:
        """Take its power away: no goodbye. Nothing happens where it is off."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what `litfass status --json` prints."""
        ...

    def devices(self) -> dict[str, dict[str, Any]]:
        """Return what `litfass devices --json` prints, by device id."""
        ...

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Return the first status for which ``condition`` holds; fail with ``what`` after a deadline."""
        ...


class Broker(Protocol):
    """The city's MQTT broker."""

    def stop(self) -> None:
        """Take it away."""
        ...

    def start(self) -> None:
        """Bring it back; on return it listens and the city is subscribed again."""
        ...


class Cable(Protocol):
    """A cable between the gateway and a sensor."""

    def pull(self) -> None:
        """Pull it out."""
        ...

    def plug(self) -> None:
        """Put it in again."""
        ...


class Sensor(Protocol):
    """A radio sensor that can count what the gateway has acknowledged."""

    def silence(self) -> None:
        """Let it say nothing more."""
        ...

    def speak(self) -> None:
        """Let it go on."""
        ...

    def await_acknowledged(self, more: int) -> None:
        """Return once the gateway has acknowledged so many frames more, of all sensors."""
        ...


class City(Protocol):
    """The platform's side."""

    def count(self, device_id: str) -> int:
        """Return how many different readings of a device have arrived."""
        ...

    def await_more(self, device_id: str, more: int = 3) -> None:
        """Return once so many more readings of a device have arrived."""
        ...

    def settle(self) -> None:
        """Let all sensors finish, and return once the city has all that the gateway's ring holds."""
        ...

    def complaint(self) -> str:
        """Return what is lost, doubled or missing in between; empty if every acknowledged frame arrived once."""
        ...


class Parts(Protocol):
    """A bench, put together."""

    gateway: Gateway
    broker: Broker
    city: City
    cables: Mapping[str, Cable]
    sensors: Mapping[str, Sensor]

    def set_up(self) -> None:
        """Make everything but the gateway ready."""
        ...

    def tear_down(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        ...
