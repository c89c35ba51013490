"""What is decided: values and decisions only.

Nothing here reads a clock, a disk, a network or a logger, and nothing here
imports another folder of craftsync. Given the same values, every function
gives the same answer, so all of it can be tested by enumeration.
"""
