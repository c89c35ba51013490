"""The commands for objects: those that read (`listing`), and those that copy, move or remove (`copying`)."""
