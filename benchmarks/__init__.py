"""How fast craftsync is, and how much memory it takes, beside rclone, s5cmd and `aws s3 sync`.

`python -m benchmarks` runs every scenario with every tool on this machine and
writes the tables of docs/benchmarks.md; docs/benchmarks.md says how they are
measured. Nothing here knows craftsync from the inside: it is started as a user
would start it, like the others.

    measure.py     one command: wall time, processor time, peak memory
    tools.py       the command lines of each tool
    workloads.py   the files
    servers.py     what they talk to
    scenarios.py   what is measured, and when a run counts
    craft_ai.py    the same for a Craft AI data store, beside loops over the SDK (sdk_loop.py)
    stopping.py    how soon a command has ended whose store is silent
    report.py      samples to tables
"""
