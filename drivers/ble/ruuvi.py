"""RuuviTag data format 5, "RAWv2" (docs.ruuvi.com, data format 5): manufacturer data in, measurements out.

    offset  0   1     3     5     7  9  11  13     15    16        18      24
            05  12fc  5394  c37c  x  y  z   ac36   42    00cd      cbb8334c884f
            │   │     │     │     └──┴──┴─ mG      │     │         └ address
            │   °C    %     Pa      mV and dBm ┘   │     └ measurement sequence number
            └ format                               └ movement counter

All ones, or 0x8000 where a sign is possible, mark a value as not available. The parser of ruuvitag-ble knows these
marks but for the movement counter's, and it does not tell the sequence number: those three octets are read here.
"""

import struct

from drivers.ble._parsers import ServiceInfo, ruuvi_parser
from drivers.ble.advert import Advert
from drivers.ble.decoded import Decoded
from gateway.driver import FrameError, FrameReason
from gateway.profile import Measurement
from gateway.reading import Reason

COMPANY = 0x0499  # Ruuvi Innovations
FORMAT = 5
SIZE = 24
MOVEMENT_OFFSET, SEQUENCE_OFFSET, ADDRESS_OFFSET = 15, 16, 18
NOT_AVAILABLE_8, NOT_AVAILABLE_16 = b"\xff", b"\xff\xff"

NOT_MEASURED = "signal_strength"  # the parser adds it; a reading carries its own


def decode_ruuvi(advert: Advert) -> Decoded | None:
    """Return what a RuuviTag's advert says, None where it carries nothing of Ruuvi's.

    What the tag marks as not available becomes None, so that it is reported as missing. The adverts are not
    authenticated, and each measurement says so.

    Raises:
        FrameError: TYPE: another data format. MALFORMED: not 24 octets.
    """
    data = advert.manufacturer_data.get(COMPANY)
    if data is None:
        return None
    if not data or data[0] != FORMAT:
        found = data[0] if data else "none"
        raise FrameError("", FrameReason.TYPE, f"Ruuvi: data format {found}, expected {FORMAT}", frame=data, offset=0)
    if len(data) != SIZE:
        raise FrameError("", FrameReason.MALFORMED, f"Ruuvi: {len(data)} octets, expected {SIZE}", frame=data)
    info = ServiceInfo(
        name=advert.local_name or advert.address,
        address=advert.address,
        rssi=advert.rssi_dbm,
        manufacturer_data={COMPANY: data},
        service_data={},
    )
    try:
        update = ruuvi_parser()().update(info)  # type: ignore[arg-type]  # it has all the parser reads, see _parsers
    except (ValueError, LookupError, struct.error) as error:
        raise FrameError(
            "", FrameReason.MALFORMED, f"Ruuvi: the parser gave up: {type(error).__name__}", frame=data
        ) from error
    no_movement = data[MOVEMENT_OFFSET:SEQUENCE_OFFSET] == NOT_AVAILABLE_8
    measurements = []
    for key, sensor in update.entity_values.items():
        name, value = str(key.key), sensor.native_value
        if name == NOT_MEASURED:
            continue
        if not isinstance(value, float | int) or (name == "movement_counter" and no_movement):
            value = None
        measurements.append(Measurement(name, value, reasons=Reason.UNAUTHENTICATED))
    sequence = data[SEQUENCE_OFFSET:ADDRESS_OFFSET]
    if sequence == NOT_AVAILABLE_16:
        return Decoded(measurements, identity=data)
    return Decoded(measurements, identity=sequence, is_numbered=True)
