"""`python -m craftsync`, for where the console script is not on the path."""

from craftsync.cli import main

main()
