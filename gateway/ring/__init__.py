"""A ring of readings in one file of fixed size: compact, and safe through any crash. Usable alone.

    from gateway.ring import Ring

    with Ring.open("readings.ring", size=64 << 20) as ring:
        ring.add_consumer("city")
        ring.append(readings, clock.stamp())
        ring.sync()
        for record in ring.read(ring.cursor("city"), 100):
            ...

docs/ring.md draws the format and says what is promised.
"""

from gateway.ring._copy import copy_ring
from gateway.ring._io import BlockIO
from gateway.ring._layout import SLOT_SIZE
from gateway.ring._ring import Ring
from gateway.ring._state import Consumer, MemoryValue
from gateway.ring.record import ConsumerStat, Gap, GapCause, Record, RingEvent, RingStat

__all__ = [
    "SLOT_SIZE",
    "BlockIO",
    "Consumer",
    "ConsumerStat",
    "Gap",
    "GapCause",
    "MemoryValue",
    "Record",
    "Ring",
    "RingEvent",
    "RingStat",
    "copy_ring",
]
