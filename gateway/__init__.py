"""The core: knows nothing of radios and buses."""

__version__ = "0.1.0"
