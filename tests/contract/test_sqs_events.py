"""Changes in a bucket that arrive through an SQS queue: from a real bucket's notification to the root."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from craftsync.daemon.events import QueueEvents, SqsQueue
from craftsync.errors import ConfigError, StoreUnavailable
from craftsync.stores.s3 import S3Store, probe
from tests.support.cli import Craftsync, until
from tests.support.daemons import running
from tests.support.servers import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.watching import NoWatch, kept
from tests.support.world import World

REGION = "us-east-1"
PREFIX = "données/"


@dataclass
class Notifying:
    """A bucket that tells a queue of every change, and clients of both."""

    bucket: str
    queue: str
    endpoint: str
    s3: Any
    sqs: Any

    def open(self, url: str | None = None) -> SqsQueue:
        return SqsQueue.open(
            url or f"sqs://{self.queue}", region=REGION, endpoint_url=self.endpoint
        )

    def left(self) -> int:
        """Return how many messages the queue still holds, those handed out among them."""
        url = self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def say(self, body: str) -> None:
        url = self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"]
        self.sqs.send_message(QueueUrl=url, MessageBody=body)


@pytest.fixture(scope="module")
def clients(moto_server: S3Server) -> Iterator[list[Any]]:
    """Clients of S3 and of SQS; boto3 takes a tenth of a second to make one."""
    made = [
        boto3.client(
            service,
            endpoint_url=moto_server.endpoint,
            region_name=REGION,
            aws_access_key_id=moto_server.access_key,
            aws_secret_access_key=moto_server.secret_key,
        )
        for service in ("s3", "sqs")
    ]
    yield made
    for client in made:
        client.close()


def notifying_bucket(server: S3Server, clients: list[Any]) -> Notifying:
    """Make a bucket that tells a queue of its own of every change; the queue is empty."""
    name = f"events-{uuid.uuid4().hex}"
    s3, sqs = clients
    s3.create_bucket(Bucket=name)
    sqs.create_queue(QueueName=name)
    told = {
        "QueueArn": f"arn:aws:sqs:{REGION}:123456789012:{name}",
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
    }
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"QueueConfigurations": [told]}
    )
    # S3 greets a queue with a message that tells of nothing.
    sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])
    return Notifying(name, name, server.endpoint, s3, sqs)


@pytest.fixture
def notifying(
    moto_server: S3Server, clients: list[Any], use_keys_of: Callable[[S3Server], None]
) -> Notifying:
    use_keys_of(moto_server)
    return notifying_bucket(moto_server, clients)


@dataclass
class Ears:
    """The events of a queue, and the paths they have named."""

    events: QueueEvents
    paths: set[str]
    stop: threading.Event

    def receive_once(self) -> set[str]:
        self.events.receive_once(self.stop)
        return self.paths


def ears_of(notifying: Notifying, opened: SqsQueue | None = None) -> Ears:
    paths: set[str] = set()
    events = QueueEvents(opened or notifying.open(), notifying.bucket, PREFIX, paths.update)
    return Ears(events, paths, threading.Event())


@pytest.fixture(scope="module")
def shared(moto_server: S3Server, clients: list[Any]) -> Iterator[tuple[Notifying, SqsQueue]]:
    """A queue, and the same as a daemon opens it, for the tests that leave it empty."""
    notifying = notifying_bucket(moto_server, clients)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in moto_server.variables.items():
            environment.setenv(name, value)
        opened = notifying.open()
    yield notifying, opened


def test_sqs_event_downloads_a_changed_object_without_listing(
    notifying: Notifying, tmp_path: Path
) -> None:
    store = S3Store(notifying.bucket, endpoint_url=notifying.endpoint, prefix=PREFIX.rstrip("/"))
    store.learn(probe(store))
    world = World(tmp_path, store)
    for number in range(5):
        world.write(f"{number}", "old")
    with kept(world, NoWatch) as at_work:
        stop = threading.Event()
        events = QueueEvents(notifying.open(), notifying.bucket, PREFIX, at_work.loop.request_paths)
        while notifying.left():
            events.receive_once(stop)
        at_work.turn(0)
        at_work.passes.clear()
        notifying.s3.put_object(
            Bucket=notifying.bucket, Key=f"{PREFIX}été/un nom + deux.txt", Body=b"new"
        )
        events.receive_once(stop)
        at_work.turn(0)
        assert at_work.passes == [{"été/un nom + deux.txt"}]
        assert world.here()["été/un nom + deux.txt"] == "new"
        notifying.s3.delete_object(Bucket=notifying.bucket, Key=f"{PREFIX}3")
        events.receive_once(stop)
        at_work.turn(0)
        assert "3" not in world.here()
    store.close()


def test_sqs_events_of_other_prefixes_or_craftsync_are_ignored(
    notifying: Notifying,
) -> None:
    for key in ("elsewhere", f"{PREFIX}.craftsync/trash/x", f"{PREFIX}a//b", PREFIX):
        notifying.s3.put_object(Bucket=notifying.bucket, Key=key, Body=b"x")
    assert ears_of(notifying).receive_once() == set()
    assert notifying.left() == 0


RECORD = {"s3": {"bucket": {"name": "BUCKET"}, "object": {"key": "donn%C3%A9es/a+b"}}}
EVENT_BRIDGE = {
    "detail-type": "Object Created",
    "detail": {"bucket": {"name": "BUCKET"}, "object": {"key": "données/a b"}},
}


@pytest.mark.parametrize(
    "message",
    [
        {"Records": [RECORD]},
        {"Type": "Notification", "Message": json.dumps({"Records": [RECORD]})},
        EVENT_BRIDGE,
        {"Type": "Notification", "Message": json.dumps(EVENT_BRIDGE)},
    ],
    ids=["from S3", "through SNS", "from EventBridge", "from EventBridge through SNS"],
)
def test_every_s3_notification_format_is_parsed(
    shared: tuple[Notifying, SqsQueue], message: object
) -> None:
    notifying, opened = shared
    notifying.say(json.dumps(message).replace("BUCKET", notifying.bucket))
    assert ears_of(notifying, opened).receive_once() == {"a b"}


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[]",
        "7",
        "null",
        '{"Service": "Amazon S3", "Event": "s3:TestEvent"}',
        '{"Records": [{"s3": null}]}',
        '{"Records": 7}',
        '{"detail": []}',
        '{"Message": "{"}',
        pytest.param("[" * 60_000, id="deep"),
        '{"detail": {"bucket": {"name": "BUCKET"}, "object": {"key": 5}}}',
        '{"detail": {"bucket": {"name": "BUCKET"}, "object": {"key": ["a"]}}}',
        '{"detail": {"bucket": {"name": "BUCKET"}, "object": {"key": "donn\\u00e9es/\\ud800"}}}',
        '{"Records": [{"s3": {"bucket": {"name": "another"}, "object": {"key": "données/a"}}}]}',
    ],
)
def test_foreign_sqs_message_is_removed_harmlessly(
    shared: tuple[Notifying, SqsQueue], body: str
) -> None:
    notifying, opened = shared
    notifying.say(body.replace("BUCKET", notifying.bucket))
    assert ears_of(notifying, opened).receive_once() == set()
    assert notifying.left() == 0


def test_invalid_sqs_record_does_not_hide_earlier_ones(shared: tuple[Notifying, SqsQueue]) -> None:
    notifying, opened = shared
    text = json.dumps({"Records": [RECORD, 7]})
    notifying.say(text.replace("BUCKET", notifying.bucket))
    assert ears_of(notifying, opened).receive_once() == {"a b"}


def test_unprocessed_sqs_message_stays_in_the_queue(notifying: Notifying) -> None:
    ears = ears_of(notifying)
    notifying.s3.put_object(Bucket=notifying.bucket, Key=f"{PREFIX}a", Body=b"x")
    ears.stop.set()
    assert ears.receive_once() == set()
    assert notifying.left() == 1


def test_unreachable_queue_is_retried_and_its_error_shown() -> None:
    tries = threading.Semaphore(0)

    class Gone:
        def receive(self) -> list[tuple[str, str]]:
            tries.release()
            raise StoreUnavailable("the event queue cannot be used: gone")

        def remove(self, receipts: list[str]) -> None:
            raise AssertionError(receipts)

    stop = threading.Event()
    events = QueueEvents(Gone(), "bucket", PREFIX, lambda _: None)
    thread = threading.Thread(target=events.run, args=(stop,))
    thread.start()
    assert tries.acquire(timeout=60)
    assert tries.acquire(timeout=60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert events.failure == "the event queue cannot be used: gone"


@pytest.mark.parametrize(
    "url", ["sqs://", "https://queue", "sqs://a/b", "sqs://a//b", "sqs:///a/b"]
)
def test_invalid_queue_address_is_rejected(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the URL of a queue"):
        SqsQueue.open(url, region=REGION, endpoint_url=None)


def test_missing_queue_is_rejected(notifying: Notifying) -> None:
    with pytest.raises(ConfigError, match="queue 'nowhere' not found"):
        notifying.open("sqs://nowhere")


def test_queue_can_be_given_by_full_url(notifying: Notifying) -> None:
    url = notifying.sqs.get_queue_url(QueueName=notifying.queue)["QueueUrl"]
    notifying.say(json.dumps({"Records": []}))
    assert len(notifying.open("sqs://" + url.partition("://")[2]).receive()) == 1


CONFIG = """
environments: {{bucket: {{store: s3, bucket: {bucket}, prefix: données}}}}
folders: {{ours: {{root: {root}, environment: bucket, poll: 3600, events: "sqs://{bucket}"}}}}
"""


def test_daemon_receives_changes_through_the_configured_queue(
    notifying: Notifying, tmp_path: Path
) -> None:
    craftsync = Craftsync(tmp_path)
    craftsync.environment |= {
        "AWS_ENDPOINT_URL": notifying.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    root = craftsync.write("root/first", "first").parent
    craftsync.config.write_text(CONFIG.format(bucket=notifying.bucket, root=root))
    process = craftsync.start("watch", "ours")
    try:
        until(lambda: not notifying.left() and holds(notifying, "first"), "the first run")
        notifying.s3.put_object(Bucket=notifying.bucket, Key=f"{PREFIX}new", Body=b"new")
        until((root / "new").exists, "the new object")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_deleted_queue_is_shown_in_status_and_log(notifying: Notifying, tmp_path: Path) -> None:
    craftsync = Craftsync(tmp_path)
    craftsync.environment |= {
        "AWS_ENDPOINT_URL": notifying.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    root = craftsync.write("root/first", "first").parent
    craftsync.config.write_text(CONFIG.format(bucket=notifying.bucket, root=root))
    with running(craftsync) as daemon:
        until(lambda: daemon.until_state("watching")["events"], "the listening")
        assert daemon.status()["events"] == {"healthy": True, "reason": None}
        queue = notifying.sqs.get_queue_url(QueueName=notifying.queue)["QueueUrl"]
        # The daemon learns of it with its next request; the message ends the one that waits.
        notifying.sqs.send_message(QueueUrl=queue, MessageBody="{}")
        notifying.sqs.delete_queue(QueueUrl=queue)
        until(lambda: not daemon.status()["events"]["healthy"], "the failure")
        # A request finds no such queue first, and then looking up its address again does.
        reason = daemon.status()["events"]["reason"]
        assert "NonExistentQueue" in reason or "not found" in reason
        assert "changes in the store are found by listing only" in craftsync("status").text
        assert daemon.log.count("the event queue cannot be used") == 1


def holds(notifying: Notifying, path: str) -> bool:
    found = notifying.s3.list_objects_v2(Bucket=notifying.bucket, Prefix=PREFIX + path)
    return bool(found["KeyCount"])


@pytest.mark.parametrize(
    ("store", "url", "said"),
    [
        ("store: directory, path: elsewhere", "sqs://queue", "the store is not a bucket"),
        ("store: s3, bucket: ours", "https://queue", "is not the URL of a queue"),
    ],
)
def test_invalid_events_configuration_exits_78(
    tmp_path: Path, store: str, url: str, said: str
) -> None:
    craftsync = Craftsync(tmp_path)
    craftsync.write("root/first")
    craftsync.config.write_text(
        f"environments: {{e: {{{store}}}}}\n"
        f'folders: {{f: {{root: root, environment: e, events: "{url}"}}}}\n'
    )
    run = craftsync("watch")
    assert run.code == 78
    assert said in run.err
