"""The bug zoo: documented bugs put back one at a time, each of which named tests must notice."""
