"""The installed program, killed or failed by strace at one system call after another: `python -m tests.injected`."""
