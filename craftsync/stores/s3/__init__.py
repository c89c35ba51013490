"""S3-compatible buckets: a store over signed requests of our own.

Rooms, from the wire up: `signing` and `session` (who asks, and where), `wire`
(HTTP), `calls` (the requests), `page` and `listing`, `multipart`, `absence` and
`displacing` (what a write replaces), `facts` and `probe` (what the server
really does), and `store`, which puts them in order.
Nothing here knows of plans or baselines.
"""

from craftsync.stores.s3.preconditions import Limits
from craftsync.stores.s3.probe import ProbedFacts, probe
from craftsync.stores.s3.store import S3Store

__all__ = ["Limits", "ProbedFacts", "S3Store", "probe"]
