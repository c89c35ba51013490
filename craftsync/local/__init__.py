"""The linked folder on disk: scan it, watch it, read and replace its files.

Knows nothing of stores, plans or baselines. Every path below the folder is
opened from directory descriptors, so a symbolic link cannot lead outside it.
"""
