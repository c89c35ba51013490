"""Copies from one store to another: the part of a run of `engine` that needs two stores.

    sides      the two stores as sides of a run, within one range of paths
    carrier    one step: stat, copy, verify
    stream     an object of one store as content for the other, in bounded memory
    migration  the entry point: one run, its manifest

- No files in between. An object of up to `stream.WHOLE` bytes is held in memory;
  of a larger one only a few parts, read on the condition of the source's version
  and hashed in order. `stream.MemoryBudget` bounds the memory of all together.
- Where both stores are on one server (`Features.origin`), the server copies.
- An operation id is a hash of the source's version, so that a write that a crash
  left unrecorded is recognised without reading it.
- Keys are copied unchanged between stores that accept any (`Features.raw_keys`).
- The source is never written, not even by a probe or an identity file.
"""
