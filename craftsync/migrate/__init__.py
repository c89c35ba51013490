"""From one store to another: the engine of `sync` with a store on both sides.

    planner    lists both sides, joins them with what was copied before, decides each path
    executor   hands the steps to workers, makes their results durable, records them
    carrier    one step: look again, copy, verify
    content    an object of one store as content for the other, through a bounded memory
    migration  the door: one run, its rounds, its manifest

As in a run the three streams are merged by `core.merge` and decided by
`core.decide`, where the source stands for the root and the push rules hold;
the plan lives in the database. The differences:

- No root, so no files in between. An object of up to `content.WHOLE` bytes is
  in memory once; of a larger one only a few parts are, read with the source's
  version as a condition, hashed in order as they pass. `content.Room` bounds
  what all of them hold together.
- Where both stores are of one server (`Features.origin`), the server copies.
- An operation id is made from the source's version, so that a write whose
  recording was lost in a crash is recognised without reading it.
- Keys are taken as they are where a store can hold any (`Features.raw_keys`).
- The source is never written, not even probed or marked.
"""
