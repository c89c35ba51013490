"""Values and decisions, pure: what a run does at each path, and which deletes it holds.

Nothing here uses a clock, disk, network or logger, or imports another package
of craftsync. Equal arguments give equal results, so tests can enumerate them.
"""
