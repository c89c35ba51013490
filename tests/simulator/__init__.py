"""A deterministic simulator: the real engine on disks, databases and stores in memory.

`python -m tests.simulator --histories N --seed S` runs random histories. A seed
determines everything in its history. `disk` replaces Linux, `pages` the disk below
SQLite, `store` a store, and `bucket` the server below the real S3 store. `judge`
defines what must never happen, without any knowledge of craftsync; `windows`
defines the documented exceptions.
"""
