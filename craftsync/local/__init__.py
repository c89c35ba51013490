"""The linked folder on disk: its files, its ignore rules, scanning and watching it.

Knows nothing of stores, plans or baselines. Everything below a folder is
reached through open directory descriptors.
"""
