"""How to bring a bench to a named state: off -> running -> reporting."""

import enum

from hil_tests.protocols import Parts


class State(enum.IntEnum):
    """Each state includes the ones before it."""

    OFF = 0  # everything is in place, the gateway has no power
    RUNNING = 1  # the gateway is on
    REPORTING = 2  # readings of every sensor and cable arrive at the city


class BenchStrategy:
    """Brings one bench from state to state; a bench whose transition failed stays marked broken."""

    def __init__(self, parts: Parts, devices: list[str]) -> None:
        self._parts = parts
        self._devices = devices
        self._state = State.OFF
        self._is_broken = False

    def to(self, wanted: State) -> None:
        """Reach ``wanted`` from below."""
        assert not self._is_broken, "an earlier step left this bench in an unknown state"
        self._is_broken = True
        if self._state < State.RUNNING <= wanted:
            self._parts.gateway.power_on()
            self._state = State.RUNNING
        if self._state < State.REPORTING <= wanted:
            for device_id in self._devices:
                self._parts.city.await_more(device_id)
            self._state = State.REPORTING
        self._is_broken = False
