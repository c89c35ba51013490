"""The commands for objects: reading (`listing`), and copying, moving, removing (`copying`)."""
