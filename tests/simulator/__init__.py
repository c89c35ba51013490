"""The whole engine in a simulator: real planner, executor, state and settling on disks and stores in memory.

`python -m tests.simulator --histories N --seed S` runs random histories; each
is told by its seed alone. `disk` takes the place of Linux, `pages` that of the
disk below SQLite, `store` that of a store, and `bucket` that of the server below
the real S3 store. `judge` knows nothing of craftsync and says what must never
happen, `windows` what is documented as not kept.
"""
