"""The data store and the linked folders in a browser.

Like the command line, it uses the Python API and the daemon's control socket, and
decides nothing about data. `guard` controls access, `server` starts and stops,
`page` is the frame of every page, `pages/` contains all pages.
"""
