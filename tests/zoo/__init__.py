"""The bug zoo: documented bugs are put back one at a time, and named tests must notice each."""
