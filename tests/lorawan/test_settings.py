"""What `litfass check` says about LoRaWAN tables: through the real settings reader, with lines."""

import pathlib
import subprocess
import sys

import pytest

from drivers.lorawan import LORAWAN_SERIAL, LORAWAN_UDP
from drivers.lorawan.settings import Forwarder
from gateway.config import Config, load_config
from gateway.errors import ConfigErrors

HEAD = '[gateway]\nid = "gw-test-1"\nstate_dir = "."\n'
DRIVER = '[[driver]]\nname = "lora"\ntype = "lorawan-udp"\n'
KEYS = (
    'activation = "abp"\ndev_addr = "26011BDA"\nnwk_skey = "plain:2b7e151628aed2a6abf7158809cf4f3c"\n'
    'app_skey = "plain:3c4fcf098815f7aba6d2ae2816157e2b"\n'
)


def device(name: str, number: int, keys: str = KEYS) -> str:
    head = f'[[device]]\nid = "{name}"\ndriver = "lora"\nprofile = "cayenne-lpp"\n'
    return f'{head}dev_eui = "{number:016x}"\n{keys}'


def load(folder: pathlib.Path, text: str) -> Config:
    path = folder / "gateway.toml"
    path.write_text(text)
    return load_config(path, {"lorawan-udp": LORAWAN_UDP, "lorawan-serial": LORAWAN_SERIAL})


def mistakes(folder: pathlib.Path, text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(folder, text)
    return [f"{error.line}: {error.found}; {error.expected}" for error in caught.value.errors]


def test_listed_device_is_read(tmp_path: pathlib.Path) -> None:
    config = load(tmp_path, HEAD + DRIVER + device("a", 1))
    (driver,) = config.drivers
    assert str(driver.settings.listen) == "127.0.0.1:1700"
    (listed,) = driver.devices
    assert listed.settings.dev_addr == bytes.fromhex("26011bda")
    assert listed.settings.nwk_skey.reveal().hex() == "2b7e151628aed2a6abf7158809cf4f3c"


def test_s06_keys_never_show(tmp_path: pathlib.Path) -> None:
    config = load(tmp_path, HEAD + DRIVER + device("a", 1))
    assert "2b7e1516" not in repr(config)
    assert "3c4fcf09" not in repr(config)


def test_s22_public_bind_needs_two_deliberate_words(tmp_path: pathlib.Path) -> None:
    public = HEAD + DRIVER + 'listen = "0.0.0.0:1700"\n'
    (mistake,) = mistakes(tmp_path, public)
    assert mistake.startswith('7: listen = "0.0.0.0:1700" can be reached from the network')
    assert "allow_network = true" in mistake
    (mistake,) = mistakes(tmp_path, public + "allow_network = true\n")
    assert "forwarders = [" in mistake
    config = load(tmp_path, public + 'allow_network = true\nforwarders = ["0016c001ff10a2b3@10.1.0.7"]\n')
    assert any("keep it on an isolated segment" in warning for warning in config.warnings)


@pytest.mark.parametrize("listen", ["127.0.0.1:1700", "127.9.9.9:1700", "[::1]:1700", "localhost:1700"])
def test_s17_loopback_needs_none(tmp_path: pathlib.Path, listen: str) -> None:
    assert load(tmp_path, HEAD + DRIVER + f'listen = "{listen}"\n').drivers


@pytest.mark.parametrize("listen", ["[::]:1700", "192.0.2.1:1700", "gateway.local:1700"])
def test_s17_everything_else_is_refused(tmp_path: pathlib.Path, listen: str) -> None:
    assert len(mistakes(tmp_path, HEAD + DRIVER + f'listen = "{listen}"\n')) == 1


@pytest.mark.parametrize("entry", ["0016c001ff10a2", "0016c001ff10a2b3@10.1.0", "@", "10.1.0.7", "@10.1.0.7/8"])
def test_f46_wrong_forwarder_is_told(tmp_path: pathlib.Path, entry: str) -> None:
    (mistake,) = mistakes(tmp_path, HEAD + DRIVER + f'forwarders = ["{entry}"]\n')
    assert mistake.startswith(f'7: forwarders has "{entry}"')


def test_f46_forwarder_behind_an_ipv6_socket() -> None:
    forwarder = Forwarder.parse("0016c001ff10a2b3@10.1.0.0/24")
    eui = bytes.fromhex("0016c001ff10a2b3")
    assert forwarder.admits(eui, "::ffff:10.1.0.7")
    assert not forwarder.admits(eui, "::ffff:10.2.0.7")
    assert not forwarder.admits(eui, "fe80::1%eth0")


def test_otaa_is_told_to_be_for_later(tmp_path: pathlib.Path) -> None:
    otaa = 'activation = "otaa"\njoin_eui = "70b3d57ed0000001"\napp_key = "plain:101112131415161718191a1b1c1d1e1f"\n'
    (mistake,) = mistakes(tmp_path, HEAD + DRIVER + device("a", 1, otaa))
    assert mistake.startswith('12: activation = "otaa"')
    assert "this version does not answer joins yet" in mistake


def test_incomplete_abp_names_each_key(tmp_path: pathlib.Path) -> None:
    found = mistakes(tmp_path, HEAD + DRIVER + device("a", 1, 'activation = "abp"\ndev_addr = "26011bda"\n'))
    assert found == [
        f'12: activation = "abp" without {key}; expected {key} beside it' for key in ("nwk_skey", "app_skey")
    ]


def test_two_devices_that_nothing_tells_apart(tmp_path: pathlib.Path) -> None:
    (mistake,) = mistakes(tmp_path, HEAD + DRIVER + device("a", 1) + device("b", 2))
    assert "dev_addr and nwk_skey are also those of a" in mistake


def test_same_dev_eui_twice(tmp_path: pathlib.Path) -> None:
    other = KEYS.replace("26011BDA", "26011BDB")
    (mistake,) = mistakes(tmp_path, HEAD + DRIVER + device("a", 1) + device("b", 1, other))
    assert 'dev_eui = "0000000000000001" is also that of a' in mistake


@pytest.mark.parametrize("count", [8, 9])
def test_one_address_is_shared_by_few(tmp_path: pathlib.Path, count: int) -> None:
    devices = [device(f"d{n}", n, KEYS.replace("plain:2b7e15", f"plain:{n:06x}")) for n in range(1, count + 1)]
    text = HEAD + DRIVER + "".join(devices)
    if count == 8:
        assert len(load(tmp_path, text).devices) == 8
    else:
        (mistake,) = mistakes(tmp_path, text)
        assert "shared by more than 8 devices" in mistake


def test_s20_relaxed_counter_warns(tmp_path: pathlib.Path) -> None:
    config = load(tmp_path, HEAD + DRIVER + device("a", 1, KEYS + "f_cnt_check = false\n"))
    assert any("recorded frames of this device can be played again" in warning for warning in config.warnings)


def test_wired_node_is_read(tmp_path: pathlib.Path) -> None:
    text = HEAD + '[[driver]]\nname = "lora"\ntype = "lorawan-serial"\nport = "/dev/ttyUSB0"\n' + device("a", 1)
    (driver,) = load(tmp_path, text).drivers
    assert (driver.settings.port, driver.settings.baudrate) == ("/dev/ttyUSB0", 115200)


@pytest.mark.parametrize("module", ["cryptography", "cobs", "serial"])
def test_missing_library_is_told_at_the_driver(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text = HEAD + '[[driver]]\nname = "lora"\ntype = "lorawan-serial"\nport = "/dev/ttyUSB0"\n'
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith(f'6: type = "lorawan-serial" needs {module}; ')
    assert "pip install" in mistake


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("drivers.lorawan", {"cryptography", "cobs", "serial"}),
        ("drivers.lorawan, drivers.lorawan.udp_driver", {"cobs", "serial"}),
    ],
)
def test_only_what_is_used_is_imported(modules: str, absent: set[str]) -> None:
    script = f"import sys, {modules}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "drivers.lorawan.settings" in result.stdout.split()
    assert absent.isdisjoint(result.stdout.split())
