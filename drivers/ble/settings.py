"""The BLE driver's own keys in the settings file and in profiles."""

from dataclasses import dataclass

from gateway.driver import Secret, choice, duration, secret, setting, text

ADDRESS = text(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", 'a Bluetooth address such as "A4:C1:38:12:34:56"')
BINDKEY_SIZE = 16  # octets, AES-128


@dataclass(frozen=True, slots=True, kw_only=True)
class BleSettings:
    """Further keys of a ``[[driver]]`` of type ``ble``."""

    adapter: str = setting(
        text(r"hci[0-9]{1,3}", 'an adapter such as "hci0"'), default="hci0", help="Bluetooth adapter"
    )
    scan: str = setting(
        choice("auto", "passive", "active"),
        default="auto",
        help="passive only listens; active also asks devices for more; auto is passive where the adapter can",
    )
    silence: float = setting(
        duration(1.0), default="5min", help="no advert of any device for so long: the adapter is opened anew"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BleDeviceSettings:
    """Further keys of a ``[[device]]`` behind it."""

    address: str = setting(ADDRESS, help="its Bluetooth address")
    bindkey: Secret | None = setting(
        secret(BINDKEY_SIZE), default=None, help="its BTHome bindkey; then nothing unencrypted of it is taken"
    )


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """A profile's fields need no keys of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSettings:
    """Further keys of an ``[[example]]`` in a profile."""

    advert: str = setting(text(r"[0-9A-Fa-fx\s]{2,600}", "an advert in hexadecimal"), help="the whole advert")
    address: str = setting(ADDRESS, default="A4:C1:38:12:34:56", help="who sends it")
    bindkey: Secret | None = setting(secret(BINDKEY_SIZE), default=None, help="for an encrypted one")
