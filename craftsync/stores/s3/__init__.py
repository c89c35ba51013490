"""S3-compatible buckets: a store over signed requests of our own.

From the wire up: `credentials` (who asks, where, and the signature), `wire`
(HTTP), `requests`, `objects` and `reading`, `listing` and `parallel_listing`, `multipart`,
`preconditions` (what a write replaces), `copy` (from another bucket), `probe`
(what the server really does), and `store`, which puts them in order.
Nothing here knows of plans or baselines.
"""

from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.objects import WriteSettings
from craftsync.stores.s3.preconditions import Limits
from craftsync.stores.s3.probe import probe
from craftsync.stores.s3.store import S3Store

__all__ = ["Limits", "ProbedFacts", "S3Store", "WriteSettings", "probe"]
