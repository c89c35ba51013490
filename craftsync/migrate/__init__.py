"""From one store to another: what only a run of `engine` between two stores has.

    sides      the two stores as sides of a run, within one range of paths
    carrier    one step: look again, copy, verify
    stream     an object of one store as content for the other, through a bounded memory
    migration  the door: one run, its rounds, its manifest

- No folder, so no files in between. An object of up to `stream.WHOLE` bytes is
  in memory once; of a larger one only a few parts are, read with the source's
  version as a condition, hashed in order as they pass. `stream.MemoryBudget` bounds
  what all of them hold together.
- Where both stores are of one server (`Features.origin`), the server copies.
- An operation id is made from the source's version, so that a write whose
  recording was lost in a crash is recognised without reading it.
- Keys are taken as they are where a store can hold any (`Features.raw_keys`).
- The source is never written, not even probed or marked.
"""
