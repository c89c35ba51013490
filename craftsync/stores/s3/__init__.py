"""S3-compatible buckets as a store. craftsync signs and sends the requests itself, without boto3.

From the wire up: `credentials` (keys, endpoint, signature), `wire` (HTTP), `requests` (one method
for each request of S3), `responses` (what they prove), `objects` (headers and metadata), `reading`,
`listing` and `parallel_listing`, `multipart`, `preconditions` (what a write may replace), `copy`
(from another bucket), `probe` and `facts` (what the server really does), and `store`, which uses all
of them.
"""

from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.objects import WriteSettings
from craftsync.stores.s3.preconditions import Limits
from craftsync.stores.s3.probe import probe
from craftsync.stores.s3.store import S3Store

__all__ = ["Limits", "ProbedFacts", "S3Store", "WriteSettings", "probe"]
