"""Who asks, and where the bucket is: credentials, region and endpoint, found as boto3 finds them.

The only file that knows boto3, and it loads it only when it must: importing it
costs a quarter of a second of CPU, more than a small push. Plain keys in the
environment or in a profile are read here; anything that has to be fetched,
assumed or refreshed (SSO, roles, processes, instance metadata) is boto3's.
The order of the sources is boto3's:
https://docs.aws.amazon.com/boto3/latest/guide/credentials.html
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from configparser import Error as ConfigParserError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path

from craftsync.errors import ConfigError, StoreDenied
from craftsync.hosts import Authorities
from craftsync.stores.s3.signing import Keys

_PLAIN_OPTIONS = {
    *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "output"),
    *("endpoint_url", "services", "ignore_configured_endpoint_urls", "ca_bundle", "s3"),
}
"""A profile with any other option may get its keys in a way only boto3 knows."""

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    """What a client of one bucket needs. `url` ends with the bucket, without a final slash.

    `keys` may be called at any time from any thread and returns keys that are
    good for ten more minutes at least; it raises `StoreDenied` when there are none.
    """

    url: str
    region: str
    keys: Callable[[], Keys]
    refreshable: bool
    authorities: Authorities | None = None


def open_session(
    bucket: str,
    *,
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
) -> Session:
    """Find credentials, region and endpoint for a bucket.

    Raises `StoreDenied` when there are no credentials, and `ConfigError` when
    profile or endpoint make no sense. Asks no server, unless boto3 has to.
    """
    environment = os.environ
    name = profile or environment.get("AWS_DEFAULT_PROFILE") or environment.get("AWS_PROFILE")
    files = _ConfigFiles(environment)
    options = files.options(name or "default")
    region = region or environment.get("AWS_DEFAULT_REGION") or options.get("region", "us-east-1")
    endpoint = endpoint_url or _configured_endpoint(environment, files, options)
    plain = _plain_keys(environment, options, explicit_profile=profile is not None)
    return Session(
        url=_bucket_url(bucket, region, endpoint),
        region=region,
        keys=(lambda: plain) if plain else _keys_of_boto3(profile),
        refreshable=plain is None,
        authorities=_authorities(environment, options),
    )


def _authorities(environment: Environment, options: Mapping[str, str]) -> Authorities | None:
    """Return who vouches for servers, in boto3's order."""
    named = {
        "AWS_CA_BUNDLE": environment.get("AWS_CA_BUNDLE"),
        "ca_bundle in the AWS configuration": options.get("ca_bundle"),
        "REQUESTS_CA_BUNDLE": environment.get("REQUESTS_CA_BUNDLE"),
    }
    return next((Authorities(path, by) for by, path in named.items() if path), None)


class _ConfigFiles:
    """The shared config and credentials files, as far as they are needed here."""

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
        """Return S3's endpoint in a `[services NAME]` section, where it is a nested option."""
        nested = self._config.get(f"services {services}", {}).get("s3", "")
        pairs = (line.partition("=") for line in nested.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}.get("endpoint_url")


def _parsed(path: str) -> dict[str, dict[str, str]]:
    parser = RawConfigParser(default_section="")
    try:
        parser.read_string(Path(path).expanduser().read_text(encoding="utf-8"))
        return {" ".join(shlex.split(name)): dict(parser[name]) for name in parser.sections()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, ConfigParserError) as error:
        raise ConfigError(
            f"The file {path} cannot be read: {error}.", remedy="Correct or remove it."
        ) from error


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


def _bucket_url(bucket: str, region: str, endpoint: str | None) -> str:
    """Return where the bucket is: below an endpoint that was given, else at AWS in its usual form."""
    if endpoint:
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f"The S3 endpoint {endpoint!r} is no URL.",
                remedy="It has to start with http:// or https://.",
            )
        return f"{endpoint.rstrip('/')}/{bucket}"
    domain = f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    # A dot in the bucket's name does not fit the server's certificate.
    return f"https://{domain}/{bucket}" if "." in bucket else f"https://{bucket}.{domain}"


def _plain_keys(
    environment: Environment, options: Mapping[str, str], *, explicit_profile: bool
) -> Keys | None:
    """Return keys that are simply written down; a profile given by name goes before the environment."""
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


def _keys_of_boto3(profile: str | None) -> Callable[[], Keys]:
    """Return boto3's credentials, which refresh themselves when less than ten minutes are left."""
    from boto3 import Session as Boto3Session
    from botocore.credentials import Credentials
    from botocore.exceptions import BotoCoreError

    try:
        credentials = Boto3Session(profile_name=profile).get_credentials()
    except BotoCoreError as error:
        raise _no_credentials(f"could not be had: {error}") from error
    if credentials is None:
        raise _no_credentials("were found")

    def keys(credentials: Credentials = credentials) -> Keys:
        try:
            frozen = credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise _no_credentials(f"could not be renewed: {error}") from error
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    return keys


def _no_credentials(what: str) -> StoreDenied:
    subject = "No credentials for S3" if what == "were found" else "The credentials for S3"
    return StoreDenied(
        f"{subject} {what.rstrip('.')}.",
        remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or log in again.",
    )
