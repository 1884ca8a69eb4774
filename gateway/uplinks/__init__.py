"""Ways to a platform: one module a platform language, over one sender."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.driver import Problem

if TYPE_CHECKING:
    from gateway.uplinks.sender import UplinkParts

UPLINK_TYPES = {"mqtt": "gateway.uplinks.mqtt:MQTT"}
"""What ``[[uplink]] type`` may say, and where it is; imported only when it is used."""


class Uplink(Protocol):
    """One way to a platform."""

    async def run(self) -> None:
        """Deliver until cancelled; faults of the platform are handled inside."""
        ...

    async def drain(self, deadline_s: float) -> None:
        """Let what is synced leave, for at most ``deadline_s`` seconds, then say goodbye."""
        ...

    def status(self) -> dict[str, object]:
        """Return what `litfass status` shows."""
        ...

    def clock_became_known(self) -> None:
        """Hear that the wall clock is right now: what failed for a wrong time may work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkType:
    """What a platform language offers.

    Attributes:
        summary: One line.
        settings: Dataclass of the further keys of its ``[[uplink]]`` table.
        build: Makes the uplink; connects nothing yet.
        check: Looks at all settings together.
    """

    summary: str
    settings: type[Any]
    build: Callable[["UplinkParts"], Uplink]
    check: Callable[[Any], Iterable[Problem]]


def load_uplink_type(name: str) -> UplinkType:
    """Return the uplink type of a name in ``UPLINK_TYPES``."""
    module, _, attribute = UPLINK_TYPES[name].partition(":")
    uplink_type = getattr(importlib.import_module(module), attribute)
    assert isinstance(uplink_type, UplinkType)
    return uplink_type
