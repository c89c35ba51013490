"""What can be configured, and where it is said: the options, the file, the secrets, and what names stand for.

Nothing here opens a store or runs anything: `craftsync.opening` does.
"""
