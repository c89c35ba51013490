"""The configuration: options, file and secrets, and how names of stores and folders are resolved.

Nothing here opens a store or runs anything; `craftsync.open_store` and `craftsync.linked_folders` do.
"""
