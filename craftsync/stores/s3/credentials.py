"""Finds the credentials, region and endpoint of a bucket, and signs requests with them.

Plain keys from the environment or a profile are read here. boto3 gets those that must be fetched
or refreshed (SSO, roles, processes, instance metadata), and is imported only then: the import
costs a quarter of a second of CPU. The order of sources is boto3's:
https://docs.aws.amazon.com/boto3/latest/guide/credentials.html

The signature is version 4, in headers; a test compares it with botocore's:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from craftsync.errors import ConfigError, StoreDenied, nearest
from craftsync.net.hosts import CertificateAuthorities
from craftsync.net.waiting import after_fork

Query = Iterable[tuple[str, str]]

BODY_SHA256 = "x-amz-content-sha256"
"""The header with the SHA-256 of the body, in hexadecimal, or `UNSIGNED`."""
UNSIGNED = "UNSIGNED-PAYLOAD"


class Keys(NamedTuple):
    """An access key and its secret, and the session token of temporary ones."""

    access: str
    secret: str
    token: str | None = None


class Request(NamedTuple):
    """A request to sign. `path` is percent-encoded; `headers` have lower-case names and include `host`."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_digest: str


def encoded_path(path: str) -> str:
    """Percent-encode a path as S3 requires: everything but letters, digits and `-._~/`."""
    return quote(path, safe="/")


def encoded_query(query: Query) -> str:
    """Encode and sort a query string into its canonical form."""
    if not query:
        return ""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(request: Request, keys: Keys, region: str, now: datetime) -> dict[str, str]:
    """Return the request's headers with date and signature added. `now` is UTC."""
    stamp = _stamp(now)
    headers = {**request.headers, "x-amz-date": stamp, BODY_SHA256: request.body_digest}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    signed, signature = _signature(request, headers, keys, region, stamp)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{_scope(stamp, region)}, "
        f"SignedHeaders={signed}, Signature={signature}"
    )
    return headers


def signed_query(request: Request, keys: Keys, region: str, now: datetime, seconds: int) -> str:
    """Return the query of a signed URL, which makes this request without headers until `seconds` after `now`.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    stamp = _stamp(now)
    others = {name: value for name, value in request.headers.items() if name != "host"}
    query = encoded_query(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{keys.access}/{_scope(stamp, region)}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
            **({"X-Amz-Security-Token": keys.token} if keys.token else {}),
            **others,
        }.items()
    )
    only, headers = request._replace(query=query), {"host": request.headers["host"]}
    return f"{query}&X-Amz-Signature={_signature(only, headers, keys, region, stamp)[1]}"


@lru_cache(maxsize=8)
def _scope(stamp: str, region: str) -> str:
    return f"{stamp[:8]}/{region}/s3/aws4_request"


def _signature(
    request: Request, headers: Mapping[str, str], keys: Keys, region: str, stamp: str
) -> tuple[str, str]:
    """Return the names of the signed headers, and the signature. `headers` are all headers to sign."""
    names = sorted(headers)
    signed = ";".join(names)
    # Below, the canonical request is encoded as http.client encodes the headers that it sends.
    lines = "".join([f"{name}:{headers[name]}\n" for name in names])
    if "\n".join(lines.split()) + "\n" != lines:  # Rare: a value contains spaces.
        lines = "".join([f"{name}:{' '.join(headers[name].split())}\n" for name in names])
    canonical = f"{request.method}\n{request.path}\n{request.query}\n{lines}\n{signed}\n{request.body_digest}"
    digest = sha256(canonical.encode("latin-1")).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{_scope(stamp, region)}\n{digest}"
    key = _signing_key(keys.secret, stamp[:8], region)
    return signed, hmac.digest(key, text.encode(), "sha256").hex()


@lru_cache(maxsize=8)
def _stamp(now: datetime) -> str:
    return now.strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


_PLAIN_OPTIONS = {
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "output"),
    *("endpoint_url", "services", "ignore_configured_endpoint_urls", "ca_bundle", "s3"),
}
"""A profile with any other option may get its keys in a way that only boto3 implements."""

_HARMLESS_S3_OPTIONS = {
    *("max_concurrent_requests", "max_queue_size", "multipart_threshold", "multipart_chunksize"),
    *("max_bandwidth", "target_bandwidth", "preferred_transfer_client", "io_chunksize"),
    *("payload_signing_enabled", "us_east_1_regional_endpoint"),
}
"""Options that tune the transfers of other clients, without an effect on what is stored."""
_HARMLESS_S3_VALUES = {
    "addressing_style": ("auto", "path", "virtual"),
    "signature_version": ("s3v4",),
    "use_accelerate_endpoint": ("false",),
    "use_dualstack_endpoint": ("false",),
    "use_arn_region": ("false", "true"),
}
"""Options with the values that change no request of craftsync, or that it implements."""

_HOST = re.compile(r"[\w.-]+|[0-9a-f:.%]+", re.IGNORECASE)

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    """All that a client of one bucket needs. `url` ends with the bucket, without a final slash.

    `keys` may be called at any time from any thread. It returns keys that stay valid for at least
    ten minutes, and raises `StoreDenied` if there are none.
    """

    url: str
    region: str
    keys: Callable[[], Keys]
    refreshable: bool
    authorities: CertificateAuthorities | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""


def open_session(
    bucket: str,
    *,
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    request_payer: bool = False,
) -> Session:
    """Find credentials, region and endpoint of a bucket. With `request_payer`, the user pays the requests.

    Raises `StoreDenied` if there are no credentials, and `ConfigError` if the profile or the
    endpoint is invalid. Sends no request, unless boto3 must fetch credentials.
    """
    environment = os.environ
    name = profile or environment.get("AWS_DEFAULT_PROFILE") or environment.get("AWS_PROFILE")
    files = _ConfigFiles(environment)
    options = files.options(name or "default")
    region = region or environment.get("AWS_DEFAULT_REGION") or options.get("region", "us-east-1")
    endpoint = endpoint_url or _configured_endpoint(environment, files, options)
    style = _addressing_style(name or "default", options)
    plain = _plain_keys(environment, options, explicit_profile=profile is not None)
    return Session(
        url=_bucket_url(bucket, region, endpoint, style),
        region=region,
        keys=(lambda: plain) if plain else _KeysOfBoto3(profile, region),
        refreshable=plain is None,
        authorities=_authorities(environment, options),
        headers={"x-amz-request-payer": "requester"} if request_payer else {},
    )


def _authorities(
    environment: Environment, options: Mapping[str, str]
) -> CertificateAuthorities | None:
    """Return the certificate authorities to trust, found in boto3's order."""
    named = {
        "AWS_CA_BUNDLE": environment.get("AWS_CA_BUNDLE"),
        "ca_bundle in the AWS configuration": options.get("ca_bundle"),
        "REQUESTS_CA_BUNDLE": environment.get("REQUESTS_CA_BUNDLE"),
    }
    return next((CertificateAuthorities(path, by) for by, path in named.items() if path), None)


class _ConfigFiles:
    """The shared AWS config and credentials files."""

    def __init__(self, environment: Environment) -> None:
        self._config = _parsed(environment.get("AWS_CONFIG_FILE", "~/.aws/config"))
        self._credentials = _parsed(
            environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        )

    def options(self, profile: str) -> dict[str, str]:
        """Return the options of a profile; the credentials file wins."""
        own = self._config.get(f"profile {profile}") or {}
        if profile == "default":
            own = own or self._config.get("default", {})
        return {**own, **self._credentials.get(profile, {})}

    def service_endpoint(self, services: str) -> str | None:
        """Return the S3 endpoint of a `[services NAME]` section, in which it is a nested option."""
        nested = self._config.get(f"services {services}", {}).get("s3", "")
        return _nested(nested).get("endpoint_url")


def _nested(text: str) -> dict[str, str]:
    """Return the options nested in an option's value, each on its own line."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}


def _addressing_style(profile: str, options: Mapping[str, str]) -> str:
    """Return `auto`, `path` or `virtual`. Raises `ConfigError` for an S3 option that craftsync ignores."""
    chosen = _nested(options.get("s3", ""))
    for name, value in chosen.items():
        if name in _HARMLESS_S3_OPTIONS or value.lower() in _HARMLESS_S3_VALUES.get(name, ()):
            continue
        known = sorted({*_HARMLESS_S3_OPTIONS, *_HARMLESS_S3_VALUES})
        allowed = " or ".join(_HARMLESS_S3_VALUES.get(name, ()))
        raise ConfigError(
            f"The AWS profile {profile} has the S3 option {name} = {value}, which craftsync does not use.",
            remedy=f"Set it to {allowed}, or remove it."
            if allowed
            else f"{nearest(name, known)}Correct or remove it.",
        )
    return chosen.get("addressing_style", "auto").lower()


def _parsed(path: str) -> dict[str, dict[str, str]]:
    try:
        text = Path(os.path.expanduser(path)).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    import configparser  # Imported only if the file exists.

    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(text)
        return {" ".join(shlex.split(name)): dict(parser[name]) for name in parser.sections()}
    except (ValueError, configparser.Error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ConfigError:
    return ConfigError(f"The file {path} cannot be read: {error}.", remedy="Correct or remove it.")


def _configured_endpoint(
    environment: Environment, files: _ConfigFiles, options: Mapping[str, str]
) -> str | None:
    ignored = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or options.get(
        "ignore_configured_endpoint_urls", ""
    )
    if ignored.lower() == "true":
        return None
    from_environment = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    services = options.get("services")
    from_services = files.service_endpoint(services) if services else None
    return from_environment or from_services or options.get("endpoint_url")


def _bucket_url(bucket: str, region: str, endpoint: str | None, style: str) -> str:
    """Return the URL of the bucket, below the given endpoint or else at AWS.

    As in boto3, the bucket is in the path of an endpoint unless the style is `virtual`, and in
    the host name of AWS unless the style is `path`.
    """
    if endpoint:
        parts = _checked_endpoint(endpoint)
        in_name = style == "virtual" and not _is_address(parts.hostname or "")
        base = endpoint.rstrip("/")
    else:
        in_name = style != "path"
        base = f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    scheme, _, place = base.partition("://")
    # The server's wildcard certificate does not match a bucket name with a dot.
    if in_name and not ("." in bucket and scheme == "https"):
        return f"{scheme}://{bucket}.{place}"
    return f"{base}/{bucket}"


def _checked_endpoint(endpoint: str) -> SplitResult:
    """Return the parts of an endpoint. Raises `ConfigError` if it is not the URL of a server."""
    parts = urlsplit(endpoint)
    try:
        reachable = parts.port != 0 and _HOST.fullmatch(parts.hostname or "")
    except ValueError:  # The port is invalid.
        reachable = None
    if parts.scheme in ("http", "https") and reachable and not (parts.query or parts.fragment):
        return parts
    raise ConfigError(
        f"The S3 endpoint {endpoint!r} is not a URL.",
        remedy="Write https://HOST, http://HOST or either with a :PORT.",
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _plain_keys(
    environment: Environment, options: Mapping[str, str], *, explicit_profile: bool
) -> Keys | None:
    """Return keys from the environment or the profile; an explicitly named profile takes precedence."""
    access = environment.get("AWS_ACCESS_KEY_ID")
    if access and not explicit_profile:
        secret = environment.get("AWS_SECRET_ACCESS_KEY")
        token = environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_SECURITY_TOKEN")
        expires = "AWS_CREDENTIAL_EXPIRATION" in environment
        return Keys(access, secret, token) if secret and not expires else None
    if not options.keys() <= _PLAIN_OPTIONS:
        return None
    access, secret = options.get("aws_access_key_id"), options.get("aws_secret_access_key")
    return Keys(access, secret, options.get("aws_session_token")) if access and secret else None


class _KeysOfBoto3:
    """boto3's credentials, which refresh themselves when less than ten minutes are left.

    They hold a lock while they do. A forked child gets credentials of its own, because another
    thread may have held that lock.
    """

    def __init__(self, profile: str | None, region: str) -> None:
        """Raises `StoreDenied` if boto3 finds none."""
        self._profile = profile
        self._region = region
        self._credentials: Any = self._found()
        after_fork(self, _KeysOfBoto3._forget)

    def __call__(self) -> Keys:
        from botocore.exceptions import BotoCoreError, ClientError

        self._credentials = self._credentials or self._found()
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise _no_credentials(f"could not be renewed: {error}") from error
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def _found(self) -> Any:
        from boto3 import Session as Boto3Session
        from botocore.exceptions import BotoCoreError

        try:
            # The service that issues a role's keys is regional too.
            session = Boto3Session(profile_name=self._profile, region_name=self._region)
            credentials = session.get_credentials()
        except BotoCoreError as error:
            raise _no_credentials(f"could not be had: {error}") from error
        if credentials is None:
            raise _no_credentials("were found")
        return credentials

    def _forget(self) -> None:
        self._credentials = None


def _no_credentials(what: str) -> StoreDenied:
    subject = "No credentials for S3" if what == "were found" else "The credentials for S3"
    return StoreDenied(
        f"{subject} {what.rstrip('.')}.",
        remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or log in again.",
    )
