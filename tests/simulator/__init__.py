"""The whole engine in a simulator: real planner, executor, state and settling on disks and stores in memory.

`python -m tests.simulator --histories N --seed S` runs random histories; each
is told by its seed alone. `disk` takes the place of Linux, `store` that
of a store, `pages` that of the disk below SQLite, `bucket` that of the server below the real S3 store; `judge`
knows nothing of craftsync and says what must never happen.
"""
