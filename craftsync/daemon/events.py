"""Reports changed objects at once, from an SQS queue that receives S3 event notifications.

Events are hints, as file events are: if one is lost, the next listing finds the
change. Besides the S3 store, this is the only module that uses boto3; it imports
boto3 when it opens a queue. The formats: Amazon S3 user guide, "Event message
structure" and "EventBridge event message structure".
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol
from urllib.parse import unquote_plus

from craftsync.core.paths import is_own, malformed
from craftsync.daemon.schedule import Backoff
from craftsync.errors import ConfigError, CraftsyncError, StoreUnavailable

SCHEME = "sqs://"
_HOUR = 3600.0
_WAIT_SECONDS = 20
"""How long SQS holds a receive request open (long polling); the longest it allows."""
_MAX_MESSAGES = 10
"""The most messages SQS returns at once."""


_log = logging.getLogger(__name__)

OnPaths = Callable[[set[str]], None]


@dataclass(frozen=True, slots=True)
class EventSource:
    """A queue, and the bucket and prefix whose changes it reports; `prefix` as in `QueueEvents`."""

    url: str
    bucket: str
    prefix: str
    profile: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        """Raises `ConfigError` when the URL is not that of a queue."""
        _parse_url(self.url)

    @contextmanager
    def reporting_to(self, on_paths: OnPaths) -> Iterator[Callable[[], str | None]]:
        """Report changed paths from a thread of its own, until the end of the block.

        Yields a function that returns why the queue is unusable, `None` while it
        works. An unusable queue is logged and retried.
        """
        stop = threading.Event()
        listener = _Listener(self, on_paths)
        # A daemon thread: it may still wait for the queue at the end, and must not delay the exit.
        thread = threading.Thread(target=listener.run, args=(stop,), name="events", daemon=True)
        thread.start()
        try:
            yield lambda: listener.failure
        finally:
            stop.set()


class _Listener:
    """Opens a queue and listens to it, and retries after any failure; runs in a thread of its own."""

    def __init__(self, source: EventSource, on_paths: OnPaths) -> None:
        self._source = source
        self._on_paths = on_paths
        self._events: QueueEvents | None = None
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the queue is unusable, `None` while it works."""
        return self._failure or (self._events.failure if self._events else None)

    def run(self, stop: threading.Event) -> None:
        source, backoff = self._source, Backoff(Random(), first=60.0)
        while not stop.is_set():
            try:
                queue = SqsQueue.open(source.url, profile=source.profile, region=source.region)
                self._failure = None
                self._events = QueueEvents(queue, source.bucket, source.prefix, self._on_paths)
                self._events.run(stop)
            except Exception as error:  # noqa: BLE001 (nothing may end the listening silently)
                self._note(error)
                stop.wait(backoff.next(_HOUR))

    def _note(self, error: Exception) -> None:
        is_expected = isinstance(error, CraftsyncError)
        remedy = error.remedy if isinstance(error, CraftsyncError) else ""
        reason = f"{error} {remedy}".strip() if is_expected else f"{type(error).__name__}: {error}"
        if reason != self._failure:
            _log.warning("%s", reason, exc_info=None if is_expected else error)
        self._failure = reason


class Queue(Protocol):
    """A message queue; it returns a message again until it is removed."""

    def receive(self) -> list[tuple[str, str]]:
        """Wait for messages; return the receipt and body of each. Raises `StoreUnavailable`."""
        ...

    def remove(self, receipts: list[str]) -> None:
        """Remove messages; raises `StoreUnavailable`."""
        ...


class QueueEvents:
    """Reports changed paths below one bucket and prefix.

    `prefix` includes its final slash. The queue must be used for this folder
    only: every message read from it is removed.
    """

    def __init__(
        self,
        queue: Queue,
        bucket: str,
        prefix: str,
        on_paths: OnPaths,
        random: Random | None = None,
    ) -> None:
        self._queue = queue
        self._bucket = bucket
        self._prefix = prefix
        self._on_paths = on_paths
        self._backoff = Backoff(random or Random())
        self.failure: str | None = None
        """Why the queue is unusable, `None` while it works."""

    def run(self, stop: threading.Event) -> None:
        """Report changed paths until `stop` is set; retries while the queue is unreachable.

        Run it in a daemon thread: one receive blocks for up to 20 seconds.
        """
        while not stop.is_set():
            try:
                self.receive_once(stop)
                self.failure = None
                self._backoff.reset()
            except StoreUnavailable as error:
                if self.failure != str(error):
                    _log.warning("%s", error)
                self.failure = str(error)
                stop.wait(self._backoff.next())

    def receive_once(self, stop: threading.Event) -> None:
        """Receive messages once, report the paths in them, and then remove the messages."""
        messages = self._queue.receive()
        if not messages or stop.is_set():
            return
        keys = {key for _, body in messages for key in _keys_in(body, self._bucket)}
        paths = {key[len(self._prefix) :] for key in keys if key.startswith(self._prefix)}
        wanted = {path for path in paths if malformed(path) is None and not is_own(path)}
        if wanted:
            self._on_paths(wanted)
        self._queue.remove([receipt for receipt, _ in messages])


def _keys_in(body: str, bucket: str) -> Iterator[str]:
    """Yield the keys of the bucket in a message; none if it is not a notification."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        for key in _keys_of(json.loads(body), bucket):
            if isinstance(key, str):
                yield key


def _keys_of(message: Any, bucket: str) -> Iterator[object]:
    if "Message" in message:
        # Wrapped by SNS, between the bucket and the queue.
        yield from _keys_of(json.loads(message["Message"]), bucket)
    elif "detail" in message:
        if message["detail"]["bucket"]["name"] == bucket:
            yield message["detail"]["object"]["key"]
    else:
        for record in message.get("Records", ()):
            if record["s3"]["bucket"]["name"] == bucket:
                yield unquote_plus(record["s3"]["object"]["key"])


class SqsQueue:
    """A queue of Amazon SQS, or of a compatible server. Implements `Queue`."""

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address

    @classmethod
    def open(
        cls,
        url: str,
        *,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> SqsQueue:
        """Open the queue `sqs://NAME` or `sqs://HOST/ACCOUNT/NAME`.

        Raises `ConfigError` when the URL is invalid or the queue does not exist,
        and `StoreUnavailable` when SQS cannot be reached.
        """
        place = _parse_url(url)
        from boto3 import Session
        from botocore.exceptions import BotoCoreError

        try:
            session = Session(profile_name=profile, region_name=region)
            client = session.client("sqs", endpoint_url=endpoint_url)
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"events: {url!r} cannot be used: {error}.",
                remedy="Check profile, region and endpoint.",
            ) from error
        return cls(client, f"https://{place}" if "/" in place else _find_url(client, place))

    def receive(self) -> list[tuple[str, str]]:
        answer = _call(
            self._client.receive_message,
            QueueUrl=self._address,
            MaxNumberOfMessages=_MAX_MESSAGES,
            WaitTimeSeconds=_WAIT_SECONDS,
        )
        return [
            (each["ReceiptHandle"], each.get("Body", "")) for each in answer.get("Messages", ())
        ]

    def remove(self, receipts: list[str]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)
        ]
        _call(self._client.delete_message_batch, QueueUrl=self._address, Entries=entries)


def _parse_url(url: str) -> str:
    place = url.removeprefix(SCHEME)
    if place == url or place.count("/") not in (0, 2) or "" in place.split("/"):
        raise ConfigError(
            f"events: {url!r} is not the URL of a queue.",
            remedy="Write sqs://NAME, or sqs://HOST/ACCOUNT/NAME as in the queue's URL.",
        )
    return place


def _find_url(client: Any, name: str) -> str:
    try:
        return str(_call(client.get_queue_url, QueueName=name)["QueueUrl"])
    except StoreUnavailable as error:
        if "NonExistentQueue" not in str(error):
            raise
        raise ConfigError(
            f"events: queue {name!r} not found.",
            remedy="Check its name, the region and the account of the credentials.",
        ) from error


def _call(call: Callable[..., Any], **parameters: Any) -> Any:
    """Call SQS; raises `StoreUnavailable` for any error, so that it is retried."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call(**parameters)
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"the event queue cannot be used: {error}") from error
