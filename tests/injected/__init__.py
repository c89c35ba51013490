"""strace kills the installed program at its system calls, or makes them fail: `python -m tests.injected`."""
