"""Power cuts on real filesystems while the installed program works: `python -m tests.powercuts`."""
