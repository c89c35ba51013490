"""A fake S3 whose personality a test chooses: pure objects in memory, and a thin HTTP server over them."""

from tests.support.s3.bucket import Bucket
from tests.support.s3.fake import FakeS3
from tests.support.s3.personality import FAULTY, PERSONALITIES, Personality
from tests.support.s3.serving import fake_s3, served

__all__ = ["FAULTY", "PERSONALITIES", "Bucket", "FakeS3", "Personality", "fake_s3", "served"]
