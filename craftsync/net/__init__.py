"""HTTP requests and the tasks that make them. All code that waits, waits through this package."""
