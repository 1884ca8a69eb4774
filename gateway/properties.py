"""Observed properties and their units, all read from config/properties.toml."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Self

from gateway.files import config_folder
from gateway.settings import Report, choice, integer, list_of, number, read_table, setting, text
from gateway.toml_lines import read_toml

DECIMALS_MAX = 9  # decimal places; a scaled value must stay inside 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One table of properties.toml."""

    unit: str = setting(text(r"[!-~]{0,24}", "a UCUM code, empty for states"), help="UCUM code")
    kind: str = setting(
        choice("scalar", "level", "direction", "counter", "state", "text"), help="how values are aggregated"
    )
    range: tuple[float, ...] | None = setting(
        list_of(number(), 2), default=None, help="plausible lowest and highest value"
    )
    decimals: int | None = setting(integer(0, DECIMALS_MAX), default=None, help="decimal places kept")
    senml: str | None = setting(text(r"[!-~]{1,24}"), default=None, help="unit in SenML")
    factor: float | None = setting(number(), default=None, help="SenML value per value")
    offset: float | None = setting(number(), default=None, help="added after the factor")
    cefact: str = setting(text(r"[A-Z0-9]{2,3}", "a UN/CEFACT code"), help="UN/CEFACT Rec. 20 code")
    model: str = setting(text(), help="attribute in the Smart Data Models")


@dataclass(frozen=True)
class ObservedProperty:
    """What is measured, in which unit, and how the open formats call it.

    Attributes:
        name: Name inside Litfass, without ``/1``.
        unit: UCUM code, empty for states and texts.
        kind: scalar, level, direction, counter, state or text.
        low: Lowest plausible value, None where there is no bound.
        high: Highest plausible value, likewise.
        decimals: Decimal places stored where a profile states none, None: as they come.
        senml_unit: Primary unit of the SenML registry, None where it has none.
        senml_factor: Value in the SenML unit = value x factor + offset.
        senml_offset: See ``senml_factor``.
        cefact: UN/CEFACT Recommendation 20 code.
        model: Attribute name in the Smart Data Models.
    """

    name: str
    unit: str
    kind: str
    low: float | None
    high: float | None
    decimals: int | None
    senml_unit: str | None
    senml_factor: float
    senml_offset: float
    cefact: str
    model: str

    @cached_property
    def _senml_scale(self) -> tuple[Decimal, Decimal]:
        return Decimal(repr(self.senml_factor)), Decimal(repr(self.senml_offset))

    def to_senml(self, value: float) -> float:
        """Return ``value`` in the SenML unit, computed in decimals: 23.4 hPa is 2340 Pa, not 2339.9999999999995."""
        if self.senml_factor == 1.0 and self.senml_offset == 0.0:
            return value
        factor, offset = self._senml_scale
        scaled = Decimal(repr(value)) * factor + offset
        return int(scaled) if scaled == scaled.to_integral_value() and abs(scaled) < 1e15 else float(scaled)


class Properties:
    """The table of all observed properties."""

    def __init__(self, by_name: Mapping[str, ObservedProperty]) -> None:
        self._by_name = dict(by_name)

    @classmethod
    def load(cls, path: pathlib.Path) -> Self:
        """Read a properties file.

        Raises:
            ConfigErrors: Everything that is wrong in it.
        """
        tables, lines = read_toml(path)
        report = Report(str(path), lines)
        by_name: dict[str, ObservedProperty] = {}
        for name, table in tables.items():
            if not isinstance(table, dict):
                report.error((name,), f"{name} is no table", "expected [property_name] tables only")
                continue
            row = read_table(_Row, table, report, (name,))
            if row is None:
                continue
            if row.range is not None and (len(row.range) != 2 or row.range[0] >= row.range[1]):
                report.error((name, "range"), f"range = {list(row.range)}", "expected [lowest, highest]")
                continue
            low, high = row.range or (None, None)
            by_name[name] = ObservedProperty(
                name=name,
                unit=row.unit,
                kind=row.kind,
                low=low,
                high=high,
                decimals=row.decimals,
                senml_unit=row.senml,
                senml_factor=1.0 if row.factor is None else row.factor,
                senml_offset=0.0 if row.offset is None else row.offset,
                cefact=row.cefact,
                model=row.model,
            )
        report.raise_errors()
        return cls(by_name)

    def get(self, observed_property: str) -> ObservedProperty | None:
        """Return the property a reading's name means (``temperature/2`` is ``temperature``), None if unknown."""
        return self._by_name.get(observed_property.partition("/")[0])

    def __getitem__(self, observed_property: str) -> ObservedProperty:
        found = self.get(observed_property)
        if found is None:
            raise KeyError(observed_property)
        return found

    @property
    def names(self) -> list[str]:
        """All names, in the order of the file."""
        return list(self._by_name)


@lru_cache(maxsize=1)
def standard_properties() -> Properties:
    """Return the table that travels with Litfass."""
    return Properties.load(config_folder() / "properties.toml")
