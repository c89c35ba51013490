"""Requests, and the tasks that wait for them: everything that waits goes through here."""
