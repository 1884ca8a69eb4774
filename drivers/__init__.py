"""Drivers: one package a bus. Transport apart from protocol, protocol apart from device type."""
