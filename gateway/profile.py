"""Device profiles: one TOML file says how one device type is decoded and what it yields, with its own examples.

title = "Eastron SDM630 three-phase meter"
maker = "Eastron"
source = "SDM630-Modbus V2 protocol document, issue 1.8"
decoder = "modbus"                  # which protocol's decoder reads it
every = "1min"                      # how often it should report

[[field]]
from = "voltage_l1"                 # the decoder's name for the value
property = "voltage/1"              # our name (properties.toml)
decimals = 1
register = 0                        # further keys belong to the decoder

[[example]]
name = "…"                          # further keys belong to the decoder
expect = [{ property = "voltage/1", value = 230.2 }]
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.properties import DECIMALS_MAX, Properties
from gateway.reading import Quality, Reading, Reason, Value
from gateway.settings import (
    Report,
    duration,
    found_text,
    free_table,
    integer,
    list_of,
    number,
    read_table,
    setting,
    split_table,
    suggestion,
    text,
)
from gateway.toml_lines import read_toml

FIELDS_MAX = 512  # a device with more values is several devices


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value as a decoder found it, before the profile gives it a property and a unit.

    Attributes:
        source: The decoder's name for it; a profile's ``[[field]] from`` matches it.
        value: In the unit of the device; NaN and infinities are allowed and become missing values.
        channel: Number the device gives it, where it has several of one kind.
        reasons: What the decoder knows against it.
    """

    source: str
    value: Value
    channel: int | None = None
    reasons: Reason = Reason.NONE


@dataclass(frozen=True, slots=True)
class Decoder:
    """What a protocol package tells about the profiles it can read.

    Attributes:
        name: What a profile's ``decoder`` says.
        field_settings: Dataclass (`gateway.settings`) of the further keys of a ``[[field]]``.
        example_settings: Dataclass of the further keys of an ``[[example]]``.
        run_example: Decodes one example; raises DeviceError as it would for a live frame.
    """

    name: str
    field_settings: type[Any]
    example_settings: type[Any]
    run_example: Callable[["Profile", Any], Sequence[Measurement]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    title: str = setting(text(), help="what people call the device type")
    maker: str = setting(text(), help="who makes it")
    source: str = setting(text(r"[^\x00-\x1f]{1,512}"), help="the maker's or standard's document")
    decoder: str = setting(text(r"[a-z0-9-]{1,40}", "a decoder's name"), help="which decoder reads it")
    every: float | None = setting(duration(0.1), default=None, help="how often it should report")


@dataclass(frozen=True, slots=True, kw_only=True)
class _FieldRow:
    source: str = setting(
        text(r"[!-~]{1,64}", "the decoder's name of a value"), key="from", help="the decoder's name for it"
    )
    property: str = setting(
        text(r"[a-z0-9_]{1,48}(/[0-9]{1,5})?", 'a property such as "temperature" or "temperature/2"'),
        help="a name in properties.toml",
    )
    unit: str | None = setting(text(r"[!-~]{0,24}"), default=None, help="unit after factor and offset, as a check")
    decimals: int | None = setting(integer(0, DECIMALS_MAX), default=None, help="decimal places the device resolves")
    factor: float | None = setting(number(), default=None, help="multiplies the device's value")
    offset: float | None = setting(number(), default=None, help="added after the factor")
    range: tuple[float, ...] | None = setting(
        list_of(number(), 2), default=None, help="plausible values of this device type"
    )


@dataclass(frozen=True, slots=True)
class Field:
    """One value a device type yields.

    Attributes:
        source: The decoder's name for it, ``name`` or ``name@channel``.
        observed_property: Our name for it.
        unit: UCUM unit of the property.
        decimals: Decimal places kept, None: as they come.
        factor: Multiplies the device's value, None for 1.
        offset: Added after the factor, None for 0.
        low: Lowest plausible value, None for no bound.
        high: Highest plausible value, likewise.
        options: The decoder's own keys, an instance of `Decoder.field_settings`.
    """

    source: str
    observed_property: str
    unit: str
    decimals: int | None
    factor: Decimal | None
    offset: Decimal | None
    low: float | None
    high: float | None
    options: Any

    def convert(self, raw: Value) -> Value:
        """Return the device's value in the property's unit; exact decimals, so 2302 x 0.1 is 230.2."""
        if isinstance(raw, bool | str) or raw is None or (self.factor is None and self.offset is None):
            return raw
        if isinstance(raw, float) and not math.isfinite(raw):
            return raw
        exact = Decimal(repr(raw)) * (1 if self.factor is None else self.factor) + (self.offset or 0)
        return float(exact)


@dataclass(frozen=True, slots=True)
class Example:
    """A test vector inside a profile: ``options`` for the decoder, and the readings or the error expected."""

    name: str
    options: Any
    expect: Sequence[Mapping[str, object]]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExampleRow:
    name: str = setting(text(), help="what it shows and where it comes from")
    expect: tuple[Mapping[str, object], ...] = setting(
        list_of(free_table()),
        default=[],
        help="readings: { property = …, value = … }",
    )
    error: str | None = setting(text(), default=None, help="part of the error message expected instead")


@dataclass(frozen=True, slots=True)
class Profile:
    """One device type.

    Attributes:
        name: File name without ``.toml``.
        title: What people call it.
        maker: Who makes it.
        source: The document its numbers come from.
        decoder: Name of the decoder that reads it.
        every_s: How often it should report, in seconds, None if it does not say.
        fields: What it yields.
        examples: Its test vectors.
    """

    name: str
    title: str
    maker: str
    source: str
    decoder: str
    every_s: float | None
    fields: tuple[Field, ...]
    examples: tuple[Example, ...]

    def field_of(self, measurement: Measurement) -> Field | None:
        """Return the field for ``name@channel``, else the one for ``name``, None where the profile wants neither."""
        plain = None
        exact = f"{measurement.source}@{measurement.channel}"
        for field in self.fields:
            if field.source == exact:
                return field
            if field.source == measurement.source:
                plain = field
        return plain

    def to_readings(
        self,
        device_id: str,
        measurements: Sequence[Measurement],
        *,
        phenomenon_time_ms: int,
        received_time_ms: int,
        rssi_dbm: float | None = None,
        snr_db: float | None = None,
    ) -> list[Reading]:
        """Return the readings of one frame; measurements the profile does not name are left out.

        A channel number of a field that names none becomes the suffix of the property (``temperature/3``), so two
        sensors never share a series. NaN and infinities become missing values with their reason.
        """
        readings = []
        for measurement in measurements:
            field = self.field_of(measurement)
            if field is None:
                continue
            name = field.observed_property
            if measurement.channel is not None and "@" not in field.source and "/" not in name:
                name = f"{name}/{measurement.channel}"
            value, reasons = field.convert(measurement.value), measurement.reasons
            quality = Quality.NOT_EVALUATED
            if isinstance(value, float) and not math.isfinite(value):
                value, reasons = None, reasons | Reason.NOT_FINITE
            if value is None:
                quality = Quality.MISSING
            elif Reason.DEVICE_FAULT in reasons:
                quality = Quality.FAIL
            readings.append(
                Reading(
                    device_id=device_id,
                    observed_property=name,
                    value=value,
                    unit=field.unit,
                    phenomenon_time_ms=phenomenon_time_ms,
                    received_time_ms=received_time_ms,
                    decimals=field.decimals,
                    quality=quality,
                    reasons=reasons,
                    rssi_dbm=rssi_dbm,
                    snr_db=snr_db,
                )
            )
        return readings


def load_profile(path: pathlib.Path, decoders: Mapping[str, Decoder], properties: Properties) -> Profile:
    """Read one profile file.

    Raises:
        ConfigErrors: Everything that is wrong in it, each with its line.
    """
    tables, lines = read_toml(path)
    report = Report(str(path), lines)
    rows = {key: _tables(tables.pop(key, []), key, report) for key in ("field", "example")}
    head = read_table(_Head, tables, report, ignore=("field", "example"))
    decoder = decoders.get(head.decoder) if head else None
    if head and not decoder:
        report.error(("decoder",), f'unknown decoder "{head.decoder}"', suggestion(head.decoder, decoders))
    fields = [_field(row, index, decoder, properties, report) for index, row in enumerate(rows["field"])]
    examples = [_example(row, index, decoder, report) for index, row in enumerate(rows["example"])]
    if len(fields) > FIELDS_MAX:
        report.error(("field",), f"{len(fields)} fields", f"expected at most {FIELDS_MAX}")
    report.raise_errors()
    assert head is not None
    return Profile(
        name=path.stem,
        title=head.title,
        maker=head.maker,
        source=head.source,
        decoder=head.decoder,
        every_s=head.every,
        fields=tuple(field for field in fields if field),
        examples=tuple(example for example in examples if example),
    )


def _tables(value: object, key: str, report: Report) -> list[dict[str, object]]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    report.error((key,), f"{key} = {found_text(value)}", f"expected [[{key}]] tables")
    return []


def _field(
    row: dict[str, object], index: int, decoder: Decoder | None, properties: Properties, report: Report
) -> Field | None:
    path = ("field", index)
    own, further = split_table(row, _FieldRow)
    common = read_table(_FieldRow, own, report, path)
    options = read_table(decoder.field_settings, further, report, path) if decoder else None
    if common is None:
        return None
    known = properties.get(common.property)
    if known is None:
        name = common.property.partition("/")[0]
        report.error((*path, "property"), f'unknown property "{name}"', suggestion(name, properties.names))
        return None
    if common.unit is not None and common.unit != known.unit:
        report.error(
            (*path, "unit"),
            f'unit = "{common.unit}"',
            f'expected "{known.unit}", the unit of {known.name}: convert with factor and offset',
        )
    low, high = known.low, known.high
    if common.range is not None:
        if len(common.range) != 2 or common.range[0] >= common.range[1]:
            report.error((*path, "range"), f"range = {list(common.range)}", "expected [lowest, highest]")
            return None
        low, high = common.range
    if decoder and options is None:
        return None
    return Field(
        source=common.source,
        observed_property=common.property,
        unit=known.unit,
        decimals=known.decimals if common.decimals is None else common.decimals,
        factor=None if common.factor is None else Decimal(repr(common.factor)),
        offset=None if common.offset is None else Decimal(repr(common.offset)),
        low=low,
        high=high,
        options=options,
    )


def _example(row: dict[str, object], index: int, decoder: Decoder | None, report: Report) -> Example | None:
    own, further = split_table(row, _ExampleRow)
    common = read_table(_ExampleRow, own, report, ("example", index))
    options = read_table(decoder.example_settings, further, report, ("example", index)) if decoder else None
    if common is None or options is None:
        return None
    return Example(common.name, options, common.expect, common.error)
