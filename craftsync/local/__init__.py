"""The disk side: a folder, its files, its ignore rules and how it is scanned.

Knows nothing of stores, plans or baselines. Everything below a folder is
reached by open directory descriptors, one name at a time.
"""
