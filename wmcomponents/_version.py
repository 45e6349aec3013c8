"""The version of this library, which all rooms may ask for."""

__version__ = "0.1.0"
