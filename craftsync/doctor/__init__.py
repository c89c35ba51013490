"""Finds what could keep craftsync from working here; the entry point is `examination.examine`.

A check is a small function that takes one subject (the machine, a folder, an
open store) and yields findings; each kind of subject has a tuple of checks, to
which new ones are added. Checks change nothing, and runs do not depend on them.
"""
