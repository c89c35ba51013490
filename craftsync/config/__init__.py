"""The configuration: options, file, secrets, and the resolution of store and folder names.

This package opens no store and starts no run; `craftsync.open_store` and `craftsync.linked_folders` do.
"""
