"""The data store and the linked folders in a browser.

It stands above the Python API and the daemon's control socket as the command
line does, and decides nothing about data. `guard` is the door, `server` starts
and stops, `page` is the frame around every page, `pages/` has them all.
"""
