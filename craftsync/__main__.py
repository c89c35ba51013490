"""The start of the program: `craftsync`, or `python -m craftsync`."""

import signal
import sys


def main() -> None:
    """Import the command line and run it. Until it is imported, Ctrl-C ends the process at once.

    On a system other than Linux, print a sentence and exit with 78.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from craftsync import install_hint

    try:
        install_hint.refuse_other_systems()
    except ImportError as error:
        sys.exit(_said(f"craftsync: {error}"))
    from craftsync import cli

    cli.main()


def _said(line: str) -> int:
    """Print a line on standard error and return the exit code of a configuration that cannot work."""
    sys.stderr.write(f"{line}\n")
    return 78


if __name__ == "__main__":
    main()
