"""Did every driver deliver, and did anything get lost? Pure arithmetic over what sensors, gateway and city counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.simulated.screen import Line
from drivers.simulated.street import Resident


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the show went.

    Attributes:
        lines: One for each driver.
        lost_count: Readings the gateway had taken over and the city never got.
        hole_count: Numbers between the first and the last that never came, though later ones did.
        faults: What else went wrong.
    """

    lines: Sequence[Line]
    lost_count: int
    hole_count: int
    faults: Sequence[str]

    @property
    def is_ok(self) -> bool:
        """Tell whether every driver delivered and nothing was lost."""
        return all(line.is_ok for line in self.lines) and not (self.lost_count or self.hole_count or self.faults)

    @property
    def silent_drivers(self) -> Sequence[str]:
        """Drivers of which the city got no value."""
        return [line.driver for line in self.lines if not line.received_count]


def judge(
    residents: Sequence[Resident],
    taken: Mapping[str, int],
    stored: Mapping[str, int],
    received: Mapping[str, int],
    *,
    hole_count: int = 0,
    faults: Sequence[str] = (),
) -> Verdict:
    """Compare three counts of readings, each by device.

    Args:
        residents: The devices, with their drivers.
        taken: What sensors know the gateway took over; a sensor that cannot know is left out.
        stored: What the gateway says it put into its ring.
        received: Different readings at the city.
        hole_count: Numbers missing at the city.
        faults: What else went wrong.
    """
    lines, lost_count = [], 0
    for driver in dict.fromkeys(resident.driver for resident in residents):
        devices = [resident.device_id for resident in residents if resident.driver == driver]
        owed = {device: max(taken.get(device, 0), stored.get(device, 0)) for device in devices}
        lost = sum(max(0, owed[device] - received.get(device, 0)) for device in devices)
        silent = [device for device in devices if not received.get(device)]
        arrived_count = sum(received.get(device, 0) for device in devices)
        remark = "delivered"
        if not arrived_count:
            remark = "delivered nothing"
        elif lost:
            remark = f"{lost} lost"
        elif silent:
            remark = f"nothing of {', '.join(silent)}"
        lost_count += lost
        is_ok = not lost and not silent
        lines.append(Line(driver, ", ".join(devices), sum(owed.values()), arrived_count, is_ok, remark))
    return Verdict(lines, lost_count, hole_count, faults)
