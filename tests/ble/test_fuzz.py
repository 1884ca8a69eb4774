"""S30: whatever is on the air, out come readings or a DeviceError."""

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.ble.advert import Advert, read_advert
from drivers.ble.bthome import SERVICE_UUID
from drivers.ble.driver import DECODES
from drivers.ble.ruuvi import COMPANY
from drivers.ble.station import Heard, News, Station
from gateway.driver import DeviceError, FrameError
from gateway.reading import Reason
from tests.ble.world import BTHOME, ENCRYPTED, RUUVI, devices, encrypted

PLAIN, SEALED, TAG = devices()
OBJECT_IDS = st.integers(0, 0xFF)
BTHOME_LIKE = st.builds(
    lambda info, objects: bytes([info]) + b"".join(bytes([kind]) + value for kind, value in objects),
    st.sampled_from([0x40, 0x44, 0x42, 0x41, 0x00, 0xFF]),
    st.lists(st.tuples(OBJECT_IDS, st.binary(max_size=6)), max_size=8),
)


def station(device_index: int) -> Station:
    device = (PLAIN, SEALED, TAG)[device_index]
    return Station(device, DECODES[device.profile.decoder](device), {"ble_counter/sealed": 1000}.get)


def receive(to: Station, advert: Advert, now_s: float = 0.0) -> News | None:
    try:
        news = to.receive(Heard(advert, 0, now_s))
    except DeviceError as error:
        text, device_id = str(error), error.device_id
    else:
        text, device_id = "", to.device_id
    assert device_id == to.device_id
    if text:
        assert text.startswith(f"{device_id}: ")
        assert len(text) < 300
        return None
    if isinstance(news, str):
        assert news in ("ignored", "duplicate")
        return None
    to.stored(news)
    return news


@settings(max_examples=1000)
@given(data=BTHOME_LIKE | st.binary(max_size=250), name=st.text(max_size=40), rssi_dbm=st.integers(-126, 20))
def test_plain_bthome(data: bytes, name: str, rssi_dbm: int) -> None:
    news = receive(station(0), Advert(BTHOME, rssi_dbm, service_data={SERVICE_UUID: data}, local_name=name))
    if news:
        assert all(r.reasons & Reason.UNAUTHENTICATED for r in news.readings)
        assert not news.memory


@settings(max_examples=500)
@given(data=BTHOME_LIKE | st.binary(max_size=250))
def test_encrypted_device_takes_nothing_forged(data: bytes) -> None:
    """A MIC of four octets lets one of 2^32 forgeries through: none that a test will see."""
    assert receive(station(1), Advert(ENCRYPTED, service_data={SERVICE_UUID: data})) is None


@settings(max_examples=500)
@given(objects=st.binary(min_size=2, max_size=200), counter=st.integers(0, 2**32 - 1))
def test_encrypted_rubbish_of_the_device_itself(objects: bytes, counter: int) -> None:
    news = receive(station(1), Advert(ENCRYPTED, service_data={SERVICE_UUID: encrypted(counter, objects)}))
    if news:
        assert counter > 1000
        assert news.memory == {"ble_counter/sealed": counter}
        assert all(r.reasons == Reason.NONE for r in news.readings)


@given(data=st.data())
def test_one_turned_bit_in_an_encrypted_advert_is_refused(data: st.DataObject) -> None:
    whole = encrypted(2000)
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    turned = bytearray(whole)
    turned[bit // 8] ^= 1 << bit % 8
    assert receive(station(1), Advert(ENCRYPTED, service_data={SERVICE_UUID: bytes(turned)})) is None


@settings(max_examples=500)
@given(data=st.binary(max_size=40) | st.binary(min_size=23, max_size=23).map(lambda rest: b"\x05" + rest))
def test_ruuvi(data: bytes) -> None:
    news = receive(station(2), Advert(RUUVI, manufacturer_data={COMPANY: data}))
    assert (news is not None) == (len(data) == 24 and data[0] == 5)
    if news:
        assert len(news.readings) == 8


@given(octets=st.binary(max_size=300))
def test_raw_adverts(octets: bytes) -> None:
    try:
        advert = read_advert(octets, BTHOME)
    except FrameError:
        return
    receive(station(0), advert)
    receive(station(2), advert)


@settings(max_examples=300)
@given(
    steps=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 40.0, 700.0]), st.integers(0, 2000)), min_size=1, max_size=60)
)
def test_f53_no_counter_is_ever_taken_twice_without_a_quarantine_between(steps: list[tuple[float, int]]) -> None:
    to, now_s, last = station(1), 0.0, 1000
    for pause_s, counter in steps:
        now_s += pause_s
        news = receive(to, Advert(ENCRYPTED, service_data={SERVICE_UUID: encrypted(counter)}), now_s)
        if news:
            assert counter > last or news.is_restarted
            last = counter
