"""Hears of changed objects at once, through an SQS queue that S3 sends its notifications to.

Hints only, as events of the root are: they name paths to look at, and a lost
one costs no more than the wait for the next listing. The other place, besides
the S3 store, that knows boto3, which it loads when a queue is opened. The form
of a notification: Amazon S3 user guide, "Event message structure", and for
EventBridge "EventBridge event message structure".
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
"""How long SQS keeps a question open that it has no answer to; the longest it allows."""
_AT_ONCE = 10
"""The most messages SQS hands out in one answer."""


_log = logging.getLogger(__name__)

OnPaths = Callable[[set[str]], None]


@dataclass(frozen=True, slots=True)
class EventSource:
    """Which queue reports changes of which part of a bucket; `prefix` as in `QueueEvents`."""

    url: str
    bucket: str
    prefix: str
    profile: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        """Raises `ConfigError` when the URL names no queue."""
        _place_of(self.url)

    @contextmanager
    def reporting_to(self, on_paths: OnPaths) -> Iterator[Callable[[], str | None]]:
        """Report what the queue holds until the end of the block, from a thread of its own.

        Gives a function that returns why nothing is heard at the moment, `None`
        while all is well. A queue that cannot be used is logged and tried
        again: nothing rests on it.
        """
        stop = threading.Event()
        listener = _Listener(self, on_paths)
        # It may be waiting for an answer of the queue in the end, and nobody has to wait for it.
        thread = threading.Thread(target=listener.run, args=(stop,), name="events", daemon=True)
        thread.start()
        try:
            yield lambda: listener.failure
        finally:
            stop.set()


class _Listener:
    """Opens a queue and listens to it, again and again, whatever happens; runs in a thread of its own."""

    def __init__(self, source: EventSource, on_paths: OnPaths) -> None:
        self._source = source
        self._on_paths = on_paths
        self._events: QueueEvents | None = None
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing is heard at the moment."""
        return self._failure or (self._events.failure if self._events else None)

    def run(self, stop: threading.Event) -> None:
        source, backoff = self._source, Backoff(Random(), first=60.0)
        while not stop.is_set():
            try:
                queue = SqsQueue.open(source.url, profile=source.profile, region=source.region)
                self._failure = None
                self._events = QueueEvents(queue, source.bucket, source.prefix, self._on_paths)
                self._events.run(stop)
            except Exception as error:  # noqa: BLE001 (nothing may end the listening in silence)
                self._note(error)
                stop.wait(backoff.next(_HOUR))

    def _note(self, error: Exception) -> None:
        is_foreseen = isinstance(error, CraftsyncError)
        remedy = error.remedy if isinstance(error, CraftsyncError) else ""
        reason = f"{error} {remedy}".strip() if is_foreseen else f"{type(error).__name__}: {error}"
        if reason != self._failure:
            _log.warning("%s", reason, exc_info=None if is_foreseen else error)
        self._failure = reason


class Queue(Protocol):
    """Where messages come from; a message is handed out again until it is removed."""

    def receive(self) -> list[tuple[str, str]]:
        """Wait for messages, and return the receipt and the body of each; raises `StoreUnavailable`."""
        ...

    def remove(self, receipts: list[str]) -> None:
        """Remove messages; raises `StoreUnavailable`."""
        ...


class QueueEvents:
    """Reports which paths below one bucket and prefix were changed.

    `prefix` is what keys begin with before the path, with its final slash. The
    queue is for this one folder: whatever is read from it is removed.
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
        """Why nothing is heard at the moment."""

    def run(self, stop: threading.Event) -> None:
        """Hand on what is heard until `stop` is set; a queue that cannot be reached is waited for.

        An answer can be waited for so long that this is best run in a daemon thread.
        """
        while not stop.is_set():
            try:
                self.hear(stop)
                self.failure = None
                self._backoff.reset()
            except StoreUnavailable as error:
                if self.failure != str(error):
                    _log.warning("%s", error)
                self.failure = str(error)
                stop.wait(self._backoff.next())

    def hear(self, stop: threading.Event) -> None:
        """Wait for one answer of the queue and hand on the paths it names, before it is removed there."""
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
    """Yield the keys of the bucket that a message names; one that is no notification names none."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        for key in _keys_of(json.loads(body), bucket):
            if isinstance(key, str):
                yield key


def _keys_of(message: Any, bucket: str) -> Iterator[object]:
    if "Message" in message:
        # SNS stands between the bucket and the queue.
        yield from _keys_of(json.loads(message["Message"]), bucket)
    elif "detail" in message:
        if message["detail"]["bucket"]["name"] == bucket:
            yield message["detail"]["object"]["key"]
    else:
        for record in message.get("Records", ()):
            if record["s3"]["bucket"]["name"] == bucket:
                yield unquote_plus(record["s3"]["object"]["key"])


class SqsQueue:
    """A queue of Amazon SQS, or of a server that speaks its protocol. Keeps `Queue`."""

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
        """Find the queue of `sqs://NAME` or `sqs://HOST/ACCOUNT/NAME`.

        Raises `ConfigError` when the URL makes no sense or there is no such
        queue, and `StoreUnavailable` when it cannot be asked for.
        """
        place = _place_of(url)
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
        return cls(client, f"https://{place}" if "/" in place else _address_of(client, place))

    def receive(self) -> list[tuple[str, str]]:
        answer = _asked(
            self._client.receive_message,
            QueueUrl=self._address,
            MaxNumberOfMessages=_AT_ONCE,
            WaitTimeSeconds=_WAIT_SECONDS,
        )
        return [
            (each["ReceiptHandle"], each.get("Body", "")) for each in answer.get("Messages", ())
        ]

    def remove(self, receipts: list[str]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)
        ]
        _asked(self._client.delete_message_batch, QueueUrl=self._address, Entries=entries)


def _place_of(url: str) -> str:
    place = url.removeprefix(SCHEME)
    if place == url or place.count("/") not in (0, 2) or "" in place.split("/"):
        raise ConfigError(
            f"events: {url!r} names no queue.",
            remedy="Write sqs://NAME, or sqs://HOST/ACCOUNT/NAME as in the queue's URL.",
        )
    return place


def _address_of(client: Any, name: str) -> str:
    try:
        return str(_asked(client.get_queue_url, QueueName=name)["QueueUrl"])
    except StoreUnavailable as error:
        if "NonExistentQueue" not in str(error):
            raise
        raise ConfigError(
            f"events: there is no queue {name!r}.",
            remedy="Check its name, the region and whose account the credentials are of.",
        ) from error


def _asked(call: Callable[..., Any], **parameters: Any) -> Any:
    """Make a call to SQS; whatever goes wrong is worth another try later, and is reported until then."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call(**parameters)
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"the queue of the events cannot be used: {error}") from error
