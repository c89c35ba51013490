"""The configuration: options, file and secrets, and how names of stores and folders are resolved.

Nothing here opens a store or runs anything; `craftsync.opening` does.
"""
