"""The Craft AI platform as it may be met in the wild: `faulty_platform()` runs one on loopback.

`server` speaks the API, `storage` is the object store behind it, `bucket` what
it holds; `faults` are the switches, `wire` the HTTP beneath.
"""

from tests.support.platform.server import FaultyPlatform, faulty_platform

__all__ = ["FaultyPlatform", "faulty_platform"]
