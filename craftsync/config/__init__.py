"""What can be configured: the options, the file, the secrets, and what the names of stores and folders mean.

Nothing here opens a store or runs anything: `craftsync.opening` does.
"""
