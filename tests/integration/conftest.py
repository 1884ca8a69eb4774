"""What the tests of a whole gateway stand on: a certificate authority, a broker with TLS 1.3 and an ACL, settings."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.integration.bench import ACL, Settings
from tests.support.mosquitto import Mosquitto, Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def broker(tmp_path: pathlib.Path, pki: Pki) -> Iterator[Mosquitto]:
    """Mosquitto with TLS 1.3, client certificates, an ACL, and sessions that can be saved."""
    folder = tmp_path / "broker"
    extra = f"persistence true\npersistence_location {folder}/\nmax_inflight_messages 0\n"
    with Mosquitto(folder, pki=pki, acl=ACL, extra=extra) as broker:
        yield broker


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    return Settings(tmp_path)
