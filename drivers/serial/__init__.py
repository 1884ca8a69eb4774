"""Wired meters and gauges on serial lines: Modbus RTU over RS-485."""

from drivers.serial.driver import MODBUS_RTU

__all__ = ["MODBUS_RTU"]
