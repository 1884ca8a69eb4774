"""What runs outside the gateway process: the sensor node's MicroPython files, copied to boards as they are."""

import pathlib

NODE_DIR = pathlib.Path(__file__).resolve().parent / "node"
"""Folder whose ``.py`` files make up a sensor node (docs/node.md); they run on MicroPython, not here."""
