"""An S3 server that speaks TLS: whole runs over it, and whom it takes to believe it."""

from __future__ import annotations

from pathlib import Path

from tests.support import servers
from tests.support.certificates import vouched_for
from tests.support.cli import Craftsync

SIZES = {"empty": 0, "small": 4096, "in one piece": 9 << 20, "in parts": 20 << 20}


def test_files_of_all_sizes_round_trip(craftsync: Craftsync, tmp_path: Path) -> None:
    authority = vouched_for(tmp_path)
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    root = tmp_path / "root"
    root.mkdir()
    for name, size in SIZES.items():
        (root / name).write_bytes(bytes(range(256)) * (size // 256))
    for number in range(300):
        (root / f"{number:03}").write_bytes(bytes([number % 256]) * 5000)
    with servers.rclone(tmp_path / "served", certificate=authority) as server:
        craftsync.environment |= {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        refused = craftsync("push", "root", "s3://bucket")
        assert (refused.code, "certificate" in refused.err) == (5, True)
        craftsync.environment["AWS_CA_BUNDLE"] = str(authority)
        assert craftsync("push", "root", "s3://bucket").code == 0
        (tmp_path / "copy").mkdir()
        assert craftsync("pull", "copy", "s3://bucket").code == 0
        assert craftsync("migrate", "--stream", "s3://bucket", "./moved").code == 0
    for copy in ("copy", "moved"):
        for file in root.iterdir():
            if file.is_file():
                assert (tmp_path / copy / file.name).read_bytes() == file.read_bytes()
