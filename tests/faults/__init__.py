"""Every fault a request can meet, at every kind of request, before real servers: `python -m tests.faults`."""
