"""One run: plan, carry out, record. push, pull, sync, migrate and each cycle of the daemon use it."""
