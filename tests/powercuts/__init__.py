"""Power cuts on real filesystems while the installed program runs: `python -m tests.powercuts`."""
