"""craftsync keeps a local folder and a data store in step."""

__version__ = "0.1.0"
