"""Where the program starts: `craftsync`, and `python -m craftsync` where that is not on the path."""

import signal


def main() -> None:
    """Load the command line and run it; until it is loaded, Ctrl-C ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from craftsync import cli

    cli.main()


if __name__ == "__main__":
    main()
