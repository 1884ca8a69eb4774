"""SenML packs in JSON (RFC 8428): a batch of records in, octets out. Pure.

Each record of the ring becomes one SenML record, in order, so the place in the pack tells the seq: the first has
``first-seq``, each next one more. Only primary units are written (version 10), so every reader understands them.

    [{"bn":"urn:dev:org:32473-gw-1:pegel-3:","bt":1760000000.12,"n":"water_level","u":"m","v":1.234},
     {"t":60.02,"n":"water_level","u":"m","v":1.236,"q":3,"qr":["range"]}]

Two labels of our own, which a reader that does not know them ignores (RFC 8428, 4.4): ``q`` is the QARTOD flag where it
is neither pass (1) nor not evaluated (2); ``qr`` names the reasons. A value that was due and is missing is the text
record ``<property>/status`` "missing", never a number.
"""

import json
import math
from collections.abc import Callable, Sequence

from gateway.properties import ObservedProperty, Properties
from gateway.reading import Quality, Reading, Reason
from gateway.ring import Record

CONTENT_TYPE = "application/senml+json"
_REASON_WORDS = {reason: reason.name.lower().replace("_", "-") for reason in Reason if reason.name}
_SILENT_QUALITIES = (Quality.PASS, Quality.NOT_EVALUATED)


def device_urn(organization: int, gateway_id: str, device_id: str) -> str:
    """Return the device's URN (RFC 9039, 4.3): ``urn:dev:org:<PEN>-<gateway>:<device>``."""
    return f"urn:dev:org:{organization}-{gateway_id}:{device_id}"


def seconds_text(milliseconds: int) -> str:
    """Return ms as seconds in the shortest exact decimal form: 1760000000120 -> ``1760000000.12``."""
    sign = "-" if milliseconds < 0 else ""
    whole, rest = divmod(abs(milliseconds), 1000)
    return f"{sign}{whole}" + (f".{rest:03d}".rstrip("0") if rest else "")


def encode_pack(records: Sequence[Record], urn_of: Callable[[str], str], properties: Properties) -> bytes:
    """Return the pack of ``records`` in their order; the same records give the same octets.

    Args:
        records: At least one.
        urn_of: Gives a device's URN.
        properties: Names and factors of the SenML units.
    """
    base_ms = records[0].reading.phenomenon_time_ms
    device_id = ""
    parts: list[str] = []
    for record in records:
        reading = record.reading
        head = ""
        if reading.device_id != device_id:
            device_id = reading.device_id
            head = f'"bn":{json.dumps(urn_of(device_id) + ":")},'
        if not parts:
            head += f'"bt":{seconds_text(base_ms)},'
        elif reading.phenomenon_time_ms != base_ms:
            head += f'"t":{seconds_text(reading.phenomenon_time_ms - base_ms)},'
        parts.append("{" + head + _body(reading, properties.get(reading.observed_property)) + "}")
    return ("[" + ",\n".join(parts) + "]").encode()


def _body(reading: Reading, known: ObservedProperty | None) -> str:
    value, name, quality = reading.value, reading.observed_property, ""
    if reading.quality not in _SILENT_QUALITIES:
        quality = f',"q":{int(reading.quality)}'
    if reading.reasons:
        words = [word for reason, word in _REASON_WORDS.items() if reason in reading.reasons]
        quality += f',"qr":{json.dumps(words, separators=(",", ":"))}'
    if known is not None and known.senml_unit and isinstance(value, float | int) and not isinstance(value, bool):
        value = known.to_senml(value)
        if not math.isfinite(value):  # 1e307 hPa is no number any more in Pa
            value = None
    if value is None:
        return f'"n":"{name}/status","vs":"missing"{quality}'
    if isinstance(value, bool):
        return f'"n":"{name}","vb":{"true" if value else "false"}{quality}'
    if isinstance(value, str):
        return f'"n":"{name}","vs":{json.dumps(value)}{quality}'
    if known is not None and known.senml_unit:
        return f'"n":"{name}","u":"{known.senml_unit}","v":{value!r}{quality}'
    return f'"n":"{name}","v":{value!r}{quality}'
