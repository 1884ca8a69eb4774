"""LoRaWAN: uplinks from packet forwarders and from wired nodes, decoded here with the city's own keys.

    counter.py    which frame counters were heard            mac.py       PHYPayload, MIC, encryption
    gwmp.py       packet-forwarder datagrams                 framing.py   COBS frames on a serial line
    cayenne.py    Cayenne LPP payloads                       receiver.py  PHYPayload -> stored readings
    settings.py   what the settings file says                udp_driver.py, serial_driver.py   socket and port

Only settings and decoders are imported here; crypto, sockets and ports come with the first driver that is built.
"""

from drivers.lorawan.cayenne import CAYENNE_LPP
from drivers.lorawan.settings import LorawanDeviceSettings, SerialSettings, UdpSettings, check_serial, check_udp
from gateway.driver import Driver, DriverParts, DriverType

__all__ = ["LORAWAN_SERIAL", "LORAWAN_UDP"]


def _build_udp(parts: DriverParts) -> Driver:
    from drivers.lorawan.udp_driver import LorawanUdpDriver  # noqa: PLC0415  # `litfass check` needs no crypto

    return LorawanUdpDriver(parts)


def _build_serial(parts: DriverParts) -> Driver:
    from drivers.lorawan.serial_driver import LorawanSerialDriver  # noqa: PLC0415  # likewise

    return LorawanSerialDriver(parts)


LORAWAN_UDP = DriverType(
    summary="LoRaWAN devices heard by packet forwarders (Semtech UDP protocol), decoded with own keys",
    settings=UdpSettings,
    device_settings=LorawanDeviceSettings,
    decoders=(CAYENNE_LPP,),
    build=_build_udp,
    check=check_udp,
)

LORAWAN_SERIAL = DriverType(
    summary="a sensor node on a serial port that sends LoRaWAN frames over the wire",
    settings=SerialSettings,
    device_settings=LorawanDeviceSettings,
    decoders=(CAYENNE_LPP,),
    build=_build_serial,
    check=check_serial,
)
