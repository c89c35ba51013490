"""Finds what could keep craftsync from working; the entry point is `examination.examine`.

A check is a small function that takes one subject (the machine, a folder, an
open store) and yields findings. Each kind of subject has a tuple of checks; add new
ones there. Checks change nothing, and runs do not depend on them.
"""
