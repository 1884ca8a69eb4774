"""What the settings file says to LoRaWAN drivers, and what can be wrong with it. Light: no crypto, no sockets."""

import importlib.util
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.driver import (
    Address,
    Device,
    Problem,
    Secret,
    address,
    boolean,
    choice,
    hex_octets,
    integer,
    list_of,
    one_of_integers,
    secret,
    setting,
    text,
)

FORWARDERS_MAX = 64  # one box has one concentrator, seldom a few more in the same segment
DEV_ADDR_SHARED_MAX = 8  # devices behind one DevAddr: each costs up to three MICs for every frame, forged ones too
FCNT_MAX = 0xFFFFFFFF

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One entry of the allow-list.

    Attributes:
        gateway_eui: Eight octets a datagram must claim, None for any.
        network: Where it must come from, None for anywhere.
    """

    gateway_eui: bytes | None
    network: Network | None

    @classmethod
    def parse(cls, entry: str) -> "Forwarder":
        """Read ``EUI``, ``EUI@ADDRESS`` or ``@ADDRESS``; an address may be a network such as ``10.1.0.0/24``.

        Raises:
            ValueError: It is none of these.
        """
        eui, at, network = entry.partition("@")
        bare = eui.replace(":", "").replace("-", "")
        if (eui and len(bare) != 16) or not (eui or at):
            raise ValueError(entry)
        return cls(bytes.fromhex(bare) if eui else None, ipaddress.ip_network(network) if at else None)

    def admits(self, gateway_eui: bytes, host: str) -> bool:
        """Tell whether a datagram with this EUI from this address is of this forwarder."""
        if self.gateway_eui is not None and self.gateway_eui != gateway_eui:
            return False
        if self.network is None:
            return True
        peer = ipaddress.ip_address(host)
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return peer in self.network


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpSettings:
    """The ``[[driver]]`` table of ``lorawan-udp``."""

    listen: Address = setting(address(), default="127.0.0.1:1700", help="where packet forwarders send to")
    allow_network: bool = setting(
        boolean(), default=False, help="let other machines reach it: the protocol authenticates nobody"
    )
    forwarders: tuple[str, ...] = setting(
        list_of(text(r"[0-9A-Fa-f:.@/-]{1,80}", '"EUI", "EUI@ADDRESS" or "@ADDRESS"'), FORWARDERS_MAX),
        default=[],
        help='packet forwarders that are heard: "0016c001ff10a2b3", "0016c001ff10a2b3@10.1.0.7", "@10.1.0.0/24"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """The ``[[driver]]`` table of ``lorawan-serial``."""

    port: str = setting(text(), help="serial port of the node, best below /dev/serial/by-id")
    baudrate: int = setting(
        one_of_integers(9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600),
        default=115200,
        help="bits per second",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LorawanDeviceSettings:
    """The further keys of a ``[[device]]`` behind a LoRaWAN driver."""

    dev_eui: bytes = setting(hex_octets(8), help="DevEUI, as printed on the device")
    activation: str = setting(choice("abp", "otaa"), help='how it got its keys; this version does "abp"')
    dev_addr: bytes | None = setting(hex_octets(4), default=None, help="DevAddr of an ABP device")
    nwk_skey: Secret | None = setting(secret(16), default=None, help="network session key (NwkSKey) of an ABP device")
    app_skey: Secret | None = setting(secret(16), default=None, help="application session key (AppSKey)")
    join_eui: bytes | None = setting(hex_octets(8), default=None, help="JoinEUI (AppEUI) of an OTAA device")
    app_key: Secret | None = setting(secret(16), default=None, help="AppKey of an OTAA device")
    f_cnt_up: int = setting(
        integer(0, FCNT_MAX), default=0, help="next frame counter expected, for a device taken over from another server"
    )
    f_cnt_check: bool = setting(
        boolean(), default=True, help="false accepts counters heard before: recorded frames can be played again"
    )


def check_udp(settings: UdpSettings, devices: Sequence[Device]) -> Iterator[Problem]:
    """Find what is wrong or risky in the settings of a ``lorawan-udp`` driver and its devices."""
    yield from _missing("lorawan-udp", "cryptography")
    for entry in settings.forwarders:
        try:
            Forwarder.parse(entry)
        except ValueError:
            expected = (
                'expected "EUI" of 16 hexadecimal digits, "EUI@ADDRESS" or "@ADDRESS" (or a network, 10.1.0.0/24)'
            )
            yield Problem(None, "forwarders", f'forwarders has "{entry}"', expected)
    if not settings.listen.is_loopback:
        found = f'listen = "{settings.listen}" can be reached from the network, and the protocol authenticates nobody'
        if not settings.allow_network:
            expected = 'expected "127.0.0.1:1700", or allow_network = true on an isolated segment'
            yield Problem(None, "listen", found, expected)
        elif not settings.forwarders:
            expected = 'expected the packet forwarders by name: forwarders = ["0016c001ff10a2b3@10.1.0.7"]'
            yield Problem(None, "forwarders", found, expected)
        else:
            yield Problem(None, "listen", found, "keep it on an isolated segment", is_warning=True)
    yield from _check_devices(devices)


def check_serial(settings: SerialSettings, devices: Sequence[Device]) -> Iterator[Problem]:
    """Find what is wrong or risky in the settings of a ``lorawan-serial`` driver and its devices."""
    del settings
    yield from _missing("lorawan-serial", "cryptography", "cobs", "serial")
    yield from _check_devices(devices)


def _missing(driver: str, *modules: str) -> Iterator[Problem]:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        found = f'type = "{driver}" needs {", ".join(missing)}'
        yield Problem(None, "type", found, "expected it to be installed: pip install 'litfass[lorawan,serial]'")


def _check_devices(devices: Sequence[Device]) -> Iterable[Problem]:
    sessions: dict[tuple[bytes, Secret], str] = {}
    owners: dict[bytes, str] = {}
    by_dev_addr: dict[bytes, int] = {}
    for device in devices:
        settings: LorawanDeviceSettings = device.settings
        name = device.device_id
        if settings.dev_eui in owners:
            found = f'dev_eui = "{settings.dev_eui.hex()}" is also that of {owners[settings.dev_eui]}'
            yield Problem(name, "dev_eui", found, "expected each device once")
        owners.setdefault(settings.dev_eui, name)
        if not settings.f_cnt_check:
            found = "f_cnt_check = false: recorded frames of this device can be played again"
            yield Problem(name, "f_cnt_check", found, "give the device new keys and delete this line", is_warning=True)
        if settings.activation == "otaa":
            expected = 'expected "abp" with dev_addr, nwk_skey and app_skey: this version does not answer joins yet'
            yield Problem(name, "activation", 'activation = "otaa"', expected)
            continue
        for key in ("dev_addr", "nwk_skey", "app_skey"):
            if getattr(settings, key) is None:
                yield Problem(name, "activation", f'activation = "abp" without {key}', f"expected {key} beside it")
        for key in ("join_eui", "app_key"):
            if getattr(settings, key) is not None:
                found = f'{key} beside activation = "abp"'
                yield Problem(name, key, found, "only a device that joins (otaa) has it: delete the line")
        if settings.dev_addr is None or settings.nwk_skey is None:
            continue
        session = (settings.dev_addr, settings.nwk_skey)
        if session in sessions:
            found = f"dev_addr and nwk_skey are also those of {sessions[session]}"
            yield Problem(name, "nwk_skey", found, "expected keys of its own: nothing else tells the two apart")
        sessions.setdefault(session, name)
        by_dev_addr[settings.dev_addr] = by_dev_addr.get(settings.dev_addr, 0) + 1
        if by_dev_addr[settings.dev_addr] == DEV_ADDR_SHARED_MAX + 1:
            found = f'dev_addr = "{settings.dev_addr.hex()}" is shared by more than {DEV_ADDR_SHARED_MAX} devices'
            yield Problem(name, "dev_addr", found, "expected an address of its own")
