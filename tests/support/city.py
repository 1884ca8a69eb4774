"""The city's side in tests: subscribes with paho (not with our own code) and keeps what arrived, message by message."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.mosquitto import Mosquitto

Identity = tuple[int, int]
"""(epoch, seq) of one reading."""


@dataclass(frozen=True)
class Pack:
    """One readings message."""

    topic: str
    payload: bytes
    epoch: int
    first: int
    last: int
    count: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """The SenML records as they are."""
        records: list[dict[str, Any]] = json.loads(self.payload)
        return records


@dataclass
class City:
    """A subscriber that survives broker restarts."""

    broker: Mosquitto
    client_name: str = "city"
    packs: list[Pack] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.client_name, protocol=mqtt.MQTTv5)
        if self.broker.pki is not None:
            cert, key = self.broker.pki.client(self.client_name)
            context = ssl.create_default_context(cafile=str(self.broker.pki.ca_path))
            context.load_cert_chain(cert, key)
            client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]  # paho takes fractions
        self._client = client
        self._subscribed = threading.Event()

    def __enter__(self) -> "City":
        properties = mqtt.Properties(mqtt.PacketTypes.CONNECT)  # type: ignore[attr-defined,no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self._client.connect("localhost", self.broker.port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(15), "the city could not subscribe"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def await_subscribed(self) -> None:
        """Return when the subscription stands (again)."""
        assert self._subscribed.wait(15), "the city could not subscribe"

    def forget_subscription(self) -> None:
        """Before a broker goes: `await_subscribed` then means the new one."""
        self._subscribed.clear()

    def wait_for(self, condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
        """Return when ``condition`` holds, checked at each message; fail after ``deadline_s``."""
        end = time.monotonic() + deadline_s
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                assert left > 0, f"waited {deadline_s:g} s in vain; {len(self.packs)} packs, {self.statuses[-2:]}"
                self._changed.wait(min(left, 0.2))

    @property
    def identities(self) -> list[Identity]:
        """(epoch, seq) of every reading, in order of arrival, repeats included."""
        return [(p.epoch, seq) for p in list(self.packs) for seq in range(p.first, p.last + 1)]

    def by_identity(self) -> dict[Identity, dict[str, Any]]:
        """Return each reading once, resolved to full name and absolute time; fails if a repeat differs."""
        found: dict[Identity, dict[str, Any]] = {}
        for pack in list(self.packs):
            for seq, record in zip(range(pack.first, pack.last + 1), resolve(pack.records), strict=True):
                known = found.setdefault((pack.epoch, seq), record)
                assert known == record, f"({pack.epoch}, {seq}) came twice with different content"
        return found

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe("litfass/#", qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            kind = message.topic.rsplit("/", 1)[1]
            if kind == "readings":
                user = dict(message.properties.UserProperty)  # type: ignore[union-attr]
                numbers = [int(user[key]) for key in ("epoch", "first-seq", "last-seq", "count")]
                self.packs.append(Pack(message.topic, bytes(message.payload), *numbers))
            elif kind == "gap":
                self.gaps.append(json.loads(message.payload))
            elif kind == "status":
                self.statuses.append(json.loads(message.payload))
            self._changed.notify_all()


def resolve(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return SenML records with base name and base time resolved (RFC 8428, 4.6)."""
    base_name, base_time, result = "", 0.0, []
    for record in records:
        base_name, base_time = record.get("bn", base_name), record.get("bt", base_time)
        rest = {key: value for key, value in record.items() if key not in ("bn", "bt", "n", "t")}
        time_s = round(base_time + record.get("t", 0), 3)
        result.append({"name": base_name + record.get("n", ""), "time": time_s, **rest})
    return result
