"""What could keep craftsync from working here, found before it does: `examination.examine` is the door.

A check is a small function that takes one subject (the machine, a folder, an
open store) and yields findings; each kind of subject has its checks in one
tuple, and adding a check is adding its function there. Nothing here decides
anything about a run, and nothing examined is left otherwise than it was.
"""
