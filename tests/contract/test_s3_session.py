"""Where an S3 store takes credentials, region and endpoint from, and what that costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from craftsync.core.model import ABSENT
from craftsync.errors import ConfigError, StoreDenied
from craftsync.stores.s3 import S3Store
from craftsync.stores.s3.credentials import (
    UNSIGNED,
    Keys,
    Request,
    encoded_path,
    encoded_query,
    open_session,
    sign,
    signed_query,
)
from tests.contract.conftest import BUCKET
from tests.support.servers import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.world import Bytes


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder that stands for ~/.aws, in an environment without any key."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        if name != "AWS_EC2_METADATA_DISABLED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def test_credentials_in_the_environment_are_used(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    session = open_session("bucket")
    assert (session.keys(), session.region) == (Keys("id", "secret", "token"), "eu-west-3")
    assert session.url == "https://bucket.s3.eu-west-3.amazonaws.com"


def test_profile_flag_overrides_the_environment(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "credentials").write_text(
        "[prod]\naws_access_key_id = prod-id\naws_secret_access_key = prod-secret\n"
    )
    (files / "config").write_text(
        "[profile prod]\nregion = eu-north-1\nendpoint_url = https://s3.example/base/\n"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    session = open_session("bucket", profile="prod")
    assert session.keys() == Keys("prod-id", "prod-secret")
    assert (session.region, session.url) == ("eu-north-1", "https://s3.example/base/bucket")
    assert open_session("bucket").keys() == Keys("id", "secret")
    monkeypatch.setenv("AWS_PROFILE", "prod")
    session = open_session("bucket")
    assert (session.keys(), session.region) == (Keys("id", "secret"), "eu-north-1")


def test_endpoint_precedence_is_boto3s(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host() -> str:
        return open_session("b").url

    (files / "credentials").write_text(
        "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n"
    )
    assert host() == "https://b.s3.us-east-1.amazonaws.com"
    config = "[default]\nendpoint_url = http://profile\n"
    (files / "config").write_text(config)
    assert host() == "http://profile/b"
    services = "services = mine\n[services mine]\ns3 =\n  endpoint_url = http://service\n"
    (files / "config").write_text(config + services)
    assert host() == "http://service/b"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general")
    assert host() == "http://general/b"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://special")
    assert host() == "http://special/b"
    assert open_session("b", endpoint_url="http://argument").url == "http://argument/b"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert host() == "https://b.s3.us-east-1.amazonaws.com"


def test_bucket_name_with_a_dot_uses_path_style(files: Path) -> None:
    (files / "credentials").write_text(
        "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n"
    )
    url = open_session("my.bucket", region="cn-north-1").url
    assert url == "https://s3.cn-north-1.amazonaws.com.cn/my.bucket"


def test_missing_credentials_are_denied_with_a_remedy(files: Path) -> None:
    with pytest.raises(StoreDenied) as denied:
        open_session("bucket")
    assert "AWS_ACCESS_KEY_ID" in denied.value.remedy
    with pytest.raises(StoreDenied, match="nobody"):
        open_session("bucket", profile="nobody")


def test_invalid_endpoint_or_ca_file_is_named(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"localhost:9000"):
        open_session("bucket", endpoint_url="localhost:9000")
    (files / "config").write_text("no section\n")
    with pytest.raises(ConfigError, match="config"):
        open_session("bucket")


def credential_process(files: Path, *, minutes: int = 60, fails: bool = False) -> None:
    """Make the default profile one whose keys a program gives out for a time."""
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    answer = {
        "Version": 1,
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Expiration": expires.isoformat(),
    }
    script = files / "keys.py"
    script.write_text("raise SystemExit(1)" if fails else f"print({json.dumps(answer)!r})")
    (files / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")


def test_expiring_credentials_of_boto3_work_everywhere(
    files: Path, rclone_server: S3Server
) -> None:
    credential_process(files)
    assert open_session(BUCKET).refreshable
    store = S3Store(BUCKET, "refreshable", endpoint_url=rclone_server.endpoint)
    assert store.stat("a") is None
    assert list(store.list()) == []
    store.close()


def test_environment_of_other_s3_clients_is_ignored(
    files: Path, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "credentials").write_text(
        f"[mine]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    elsewhere = {
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_REGION": "mars-north-1",
        "AWS_BUCKET": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    store = S3Store(BUCKET, "own", profile="mine", endpoint_url=rclone_server.endpoint)
    store.write("a", Bytes(b"x"), expect=ABSENT, operation="op")
    assert [entry.path for entry in store.list()] == ["a"]
    with store.read("a") as reader:
        assert b"".join(reader) == b"x"
    store.delete("a", expect=None)
    store.close()


def test_credentials_that_cannot_be_renewed_are_denied(
    files: Path, rclone_server: S3Server
) -> None:
    credential_process(files, fails=True)
    with pytest.raises(StoreDenied):
        S3Store(BUCKET, endpoint_url=rclone_server.endpoint)
    credential_process(files, minutes=5)  # Too short for boto3 not to ask again.
    store = S3Store(BUCKET, endpoint_url=rclone_server.endpoint)
    credential_process(files, fails=True)
    with pytest.raises(StoreDenied):
        store.stat("a")
    store.close()


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_denied(
    files: Path, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv(wrong, "wrong")
    store = S3Store(BUCKET, "denied", endpoint_url=rclone_server.endpoint)
    with pytest.raises(StoreDenied):
        store.stat("a")
    with pytest.raises(StoreDenied):
        list(store.list())
    store.close()


PUSH = """
import hashlib, sys
from craftsync.core.model import ABSENT
from craftsync.stores.s3 import S3Store, probe
from tests.support.world import Bytes
store = S3Store(sys.argv[1], "startup", endpoint_url=sys.argv[2])
store.learn(probe(store))
written = store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
assert [entry.path for entry in store.list()] == ["a"]
with store.read("a") as reader:
    assert b"".join(reader) == b"content"
store.delete("a", expect=written)
store.close()
print([name for name in ("boto3", "botocore", "urllib3") if name in sys.modules])
"""


def test_plain_credentials_never_load_boto3(rclone_server: S3Server) -> None:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [sys.executable, "-c", PUSH, BUCKET, rclone_server.endpoint]
    result = subprocess.run(
        command,
        env={**os.environ, **keys},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


KEY = st.text(st.characters(codec="utf-8"), max_size=20)
PAIRS = st.lists(st.tuples(KEY, KEY), max_size=3, unique_by=lambda pair: pair[0])


@given(KEY, PAIRS, st.binary(max_size=10), st.sampled_from([None, "to/ken=="]))
def test_request_signature_equals_botocores(
    key: str, query: list[tuple[str, str]], body: bytes, token: str | None
) -> None:
    now = datetime.now(UTC)
    path, parameters = encoded_path(f"/bucket/{key}"), encoded_query(query)
    url = f"http://host:9000{path}" + (f"?{parameters}" if parameters else "")
    headers = {"if-match": '"etag"', "x-amz-meta-note": "two  words"}
    theirs = AWSRequest("PUT", url, data=body, headers={**headers, "host": "host:9000"})
    S3SigV4Auth(Credentials("id", "secret", token), "s3", "eu-west-3").add_auth(theirs)
    stamp = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    digest = theirs.headers["X-Amz-Content-SHA256"]
    request = Request("PUT", path, parameters, {**headers, "host": "host:9000"}, digest)
    ours = sign(request, Keys("id", "secret", token), "eu-west-3", stamp)
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert abs((now - stamp).total_seconds()) < 60


@given(KEY, st.sampled_from([None, "to/ken=="]), st.integers(1, 604_800))
def test_signed_url_equals_botocores(key: str, token: str | None, seconds: int) -> None:
    path = encoded_path(f"/bucket/{key}")
    theirs = AWSRequest("GET", f"http://host:9000{path}", headers={"host": "host:9000"})
    keys = Credentials("id", "secret", token)
    S3SigV4QueryAuth(keys, "s3", "eu-west-3", expires=seconds).add_auth(theirs)
    asked = dict(parse_qsl(urlsplit(theirs.url).query))
    stamp = datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    request = Request("GET", path, "", {"host": "host:9000"}, UNSIGNED)
    ours = signed_query(request, Keys("id", "secret", token), "eu-west-3", stamp, seconds)
    assert dict(parse_qsl(ours)) == asked


def test_role_without_region_uses_the_region_of_the_call(
    files: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_server.endpoint)
    (files / "config").write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = id\naws_secret_access_key = secret\n"
    )
    session = open_session("bucket", profile="role", region="eu-west-3")
    assert session.region == "eu-west-3"
    assert session.keys().token


MODELS = Loader()
"""What boto3 knows of its services, which takes a tenth of a second to read."""
STYLES = [
    ("virtual", "http://s3.example:9000", "http://bucket.s3.example:9000"),
    ("virtual", "https://s3.example/base/", "https://bucket.s3.example/base"),
    ("virtual", "http://127.0.0.1:9000", "http://127.0.0.1:9000/bucket"),
    ("virtual", None, "https://bucket.s3.eu-west-3.amazonaws.com"),
    ("path", "https://s3.example", "https://s3.example/bucket"),
    ("path", None, "https://s3.eu-west-3.amazonaws.com/bucket"),
    ("auto", "https://s3.example", "https://s3.example/bucket"),
    ("auto", None, "https://bucket.s3.eu-west-3.amazonaws.com"),
]


@pytest.mark.parametrize(("style", "endpoint", "url"), STYLES)
def test_addressing_style_of_a_profile_works_as_in_boto3(
    files: Path, style: str, endpoint: str | None, url: str
) -> None:
    (files / "config").write_text(
        "[default]\naws_access_key_id = id\naws_secret_access_key = secret\n"
        f"region = eu-west-3\ns3 =\n  addressing_style = {style}\n  max_concurrent_requests = 20\n"
    )
    assert open_session("bucket", endpoint_url=endpoint).url == url
    of_the_profile = get_session()
    of_the_profile.register_component("data_loader", MODELS)
    client = boto3.Session(botocore_session=of_the_profile).client(
        "s3", endpoint_url=endpoint, config=Config(signature_version="s3v4")
    )
    theirs = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    # Signed addresses at AWS itself leave the region out.
    assert theirs.partition("?")[0].replace("s3.amazonaws", "s3.eu-west-3.amazonaws") == f"{url}/k"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("adressing_style = virtual", "addressing_style"),
        ("addressing_style = sideways", "virtual"),
        ("use_accelerate_endpoint = true", "false"),
        ("signature_version = s3", "s3v4"),
    ],
)
def test_unsupported_s3_profile_option_is_named(files: Path, option: str, hint: str) -> None:
    (files / "config").write_text(
        f"[profile odd]\naws_access_key_id = id\naws_secret_access_key = secret\ns3 =\n  {option}\n"
    )
    with pytest.raises(ConfigError, match=option) as refused:
        open_session("bucket", profile="odd")
    assert "odd" in str(refused.value) and hint in refused.value.remedy


@pytest.mark.parametrize(
    "endpoint",
    [
        *("s3.example", "http//s3.example", "https:/s3.example", "https://", "ftp://s3.example"),
        *("http://s3.example:port", "http://s3.example:99999", "http://:9000", "http://s3 example"),
        *("https://s3.example?x=y", "https://s3.example#x", "http://s3,example"),
    ],
)
def test_invalid_endpoint_is_a_configuration_error(files: Path, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="is not a URL"):
        open_session("bucket", endpoint_url=endpoint)
