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
    """Mosquitto with TLS 1.3, client certificates and an ACL."""
    with Mosquitto(tmp_path / "broker", pki=pki, acl=ACL) as broker:
        yield broker


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    return Settings(tmp_path)
