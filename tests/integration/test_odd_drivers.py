"""Drivers with bugs: the service goes on, and where it cannot, systemd gets to know."""

import pathlib

from tests.integration.bench import URN, Settings
from tests.support.city import City
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess

PROFILE = """\
title = "A counter"
maker = "tests"
source = "tests/integration/odd_drivers.py"
decoder = "odd"

[[field]]
from = "count"
property = "count"
"""


def odd(settings: Settings, *kinds: str) -> pathlib.Path:
    """Write settings with one driver of each kind, and one device behind it."""
    profiles = settings.folder / "profiles"
    profiles.mkdir()
    (profiles / "counter.toml").write_text(PROFILE)
    for kind in kinds:
        settings.add(f'[[driver]]\nname = "{kind}"\ntype = "{kind}"\nblock = "{settings.folder}/block"\n')
        settings.add(f'[[device]]\nid = "on-{kind}"\ndriver = "{kind}"\nprofile = "counter"\n')
    path = settings.write()
    path.write_text(path.read_text().replace("state_dir", 'profile_dirs = ["profiles"]\nstate_dir'))
    return path


def process(path: pathlib.Path, **environment: str) -> GatewayProcess:
    return GatewayProcess(path, module="tests.integration.odd_drivers", environment=environment)


def counts(city: City, kind: str) -> list[int]:
    name = f"{URN}:on-{kind}:count"
    return [record["v"] for record in city.by_identity().values() if record["name"] == name]


def test_f81_a_driver_that_crashes_again_and_again_disturbs_no_other(settings: Settings, broker: Mosquitto) -> None:
    settings.uplink(broker)
    with City(broker) as city, process(odd(settings, "steady", "crashing")) as gateway:
        status = gateway.until_status(lambda s: s["drivers"]["crashing"]["restarts"] >= 3, "it is not started again")
        assert "ZeroDivisionError: a bug" in status["drivers"]["crashing"]["detail"]
        assert (status["drivers"]["steady"]["state"], status["drivers"]["steady"]["restarts"]) == ("up", 0)
        seen = len(counts(city, "steady"))
        city.wait_for(lambda: len(counts(city, "steady")) >= seen + 20)
        city.wait_for(lambda: len(counts(city, "crashing")) >= 3)  # what it read before the bug counts
        assert gateway.terminate() == 0
        numbers = counts(city, "steady")
        assert numbers == list(range(len(numbers))), "not one reading of the other is missing"
        crashes = gateway.logged("part.crashed")
        assert len(crashes) == 1, "one line a burst, not one a crash"
        assert "odd_drivers.py" in crashes[0]["message"], "the place of the bug is told"


def test_f31_systemd_is_told_that_we_live_and_not_when_the_loop_is_blocked(settings: Settings) -> None:
    path = odd(settings, "endless")
    with process(path, WATCHDOG_USEC="1200000") as gateway:  # systemd would wait 1.2 s
        gateway.await_said("WATCHDOG=1", count=3)
        notify = gateway.notify
        assert notify is not None
        (settings.folder / "block").touch()
        gateway.until(lambda: notify.silent_s > 2.4, "blocked, and it still says that it lives")
        gateway.kill()  # as systemd does
    (settings.folder / "block").unlink()
    with process(path, WATCHDOG_USEC="1200000") as gateway:
        gateway.await_said("WATCHDOG=1", count=2)


def test_systemd_hears_ready_status_stopping_in_this_order(settings: Settings) -> None:
    with process(odd(settings, "steady"), WATCHDOG_USEC="1200000") as gateway:
        gateway.await_said("WATCHDOG=1", count=2)
        notify = gateway.notify
        assert notify is not None
        gateway.until(lambda: any(said.startswith("STATUS=1 of 1 drivers up") for said in notify.said), "no status")
        assert gateway.terminate() == 0
        marks = [said for said in notify.said if said in ("READY=1", "STOPPING=1", "STATUS=stopped")]
        assert marks == ["READY=1", "STOPPING=1", "STATUS=stopped"]
        assert notify.said.index("READY=1") < notify.said.index("STOPPING=1")
        stopping = notify.said.index("STOPPING=1")
        assert "READY=1" not in notify.said[stopping:]


def test_f29_a_driver_that_ignores_its_end_holds_up_nothing(settings: Settings, broker: Mosquitto) -> None:
    settings.uplink(broker)
    with City(broker) as city, process(odd(settings, "deaf")) as gateway:
        city.wait_for(lambda: len(counts(city, "deaf")) >= 5)
        assert gateway.terminate() == 0
