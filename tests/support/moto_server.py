"""moto's server, with what it looks up on the disk twice for each request looked up once.

That lookup, which of its services exist, takes a quarter of its time.
"""

from __future__ import annotations

import logging
import sys

from moto import backends
from moto.server import main

if __name__ == "__main__":
    services = frozenset(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: services
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    main(sys.argv[1:])
