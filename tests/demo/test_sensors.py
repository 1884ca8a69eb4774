"""The emulated sensors send what the formats' own documents show."""

from drivers.simulated.adverts import BTHOME_UUID, RUUVI_COMPANY, bthome_encrypted, bthome_objects, bthome_plain, ruuvi


def test_bthome_is_the_example_of_the_format() -> None:
    # https://bthome.io/format: temperature 25.06 °C, humidity 50.55 %
    payload = bthome_plain(bthome_objects((0x03, 5055, 2), (0x02, 2506, 2)))
    assert payload.service_data[BTHOME_UUID].hex() == "4002ca0903bf13"


def test_bthome_encrypted_is_the_example_of_the_format() -> None:
    # https://bthome.io/encryption: the same values, counter octets 00 11 22 33
    bindkey = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
    objects = bthome_objects((0x02, 2506, 2), (0x03, 5055, 2))
    payload = bthome_encrypted(objects, "54:48:E6:8F:80:A5", bindkey, 0x33221100)
    assert payload.service_data[BTHOME_UUID].hex() == "41a47266c95f730011223378237214"


def test_negative_values_are_twos_complement() -> None:
    assert bthome_objects((0x02, -125, 2)).hex() == "0283ff"


def test_ruuvi_is_the_test_vector_of_the_maker() -> None:
    payload = ruuvi(
        "CB:B8:33:4C:88:4F",
        205,
        temperature_cel=24.3,
        humidity_percent=53.49,
        pressure_pa=100044,
        battery_mv=2977,
        tx_power_dbm=4,
        movements=66,
    )
    assert payload.manufacturer_data[RUUVI_COMPANY].hex() == "0512fc5394c37c0004fffc040cac364200cdcbb8334c884f"
