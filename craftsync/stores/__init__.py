"""The stores: directory, S3, Craft AI. They know nothing of plans, baselines or folders.

`base` is the contract that every store fulfils; `retrying` wraps a store and fulfils it too.
Only the modules of a store import the library that talks to it.
"""
