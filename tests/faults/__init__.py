"""Every fault of a request, at every kind of request, with real servers: `python -m tests.faults`."""
