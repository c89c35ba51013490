"""Where the program starts: `craftsync`, and `python -m craftsync` where that is not on the path."""

import signal
import sys


def main() -> None:
    """Load the command line and run it; until it is loaded, Ctrl-C ends the process at once.

    On a system that craftsync does not run on it ends with 78 and a sentence.
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
