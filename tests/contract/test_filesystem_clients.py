"""pandas, pyarrow, dask and zarr read and write a store by its address, over each kind of store.

They take two seconds to load, so only the tests that need them load them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from threading import Barrier

import fsspec
import pytest

from craftsync.filesystem import DataStoreFileSystem
from tests.contract.conftest import BUCKET
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(params=["directory", "craft-ai", "s3"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Give the address of an empty folder of a store."""
    kind, config = request.param, tmp_path / "config.yaml"
    monkeypatch.setenv("CRAFTSYNC_CONFIG", str(config))
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))
    environment = f"{{store: directory, path: {tmp_path / 'store'}}}"
    address = f"craftsync://dev/{token_hex(4)}"
    if kind == "craft-ai":
        for name, value in request.getfixturevalue("served").variables.items():
            monkeypatch.setenv(name, value)
        address = f"craft-ai://{token_hex(4)}"
    if kind == "s3":
        server: S3Server = request.getfixturevalue("rclone_server")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        access = f"endpoint_url: {server.endpoint}, region: us-east-1"
        environment = f"{{store: s3, bucket: {BUCKET}, {access}}}"
    config.write_text(f"environments:\n  dev: {environment}\n")
    if kind == "directory":
        (tmp_path / "store").mkdir()
    yield address
    for opened in DataStoreFileSystem._cache.values():
        opened.close()
    DataStoreFileSystem.clear_instance_cache()


TABLE = {"name": ["Zoé", "Léa", "Ana"], "score": [0.5, 1.5, 2.5]}


def test_pandas_writes_and_reads_csv_and_parquet(url: str) -> None:
    import pandas as pd

    table = pd.DataFrame(TABLE)
    table.to_csv(f"{url}/été.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(f"{url}/été.csv"), table)
    table.to_parquet(f"{url}/scores.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(f"{url}/scores.parquet"), table)
    with pytest.raises(FileNotFoundError):
        pd.read_csv(f"{url}/missing.csv")


def test_pyarrow_writes_and_reads_a_partitioned_dataset(url: str) -> None:
    import pyarrow as pa
    from pyarrow import dataset

    fs, path = fsspec.url_to_fs(url)
    scores = {
        "format": "parquet",
        "filesystem": fs,
        "partitioning": dataset.partitioning(pa.schema([("year", pa.int64())]), flavor="hive"),
    }
    table = pa.table({"year": [2025, 2026, 2026], "score": [1, 2, 3]})
    dataset.write_dataset(table, f"{path}/scores", **scores)
    found = dataset.dataset(f"{path}/scores", **scores)
    recent = found.to_table(filter=dataset.field("year") == 2026)
    assert sorted(recent["score"].to_pylist()) == [2, 3]
    assert found.count_rows() == 3


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # Dask's own business.
def test_dask_reads_many_objects_in_blocks_and_writes_parquet(url: str) -> None:
    import dask.config
    import dask.dataframe
    import pandas as pd

    table = pd.DataFrame(TABLE)
    for number in range(3):
        table.to_csv(f"{url}/part-{number}.csv", index=False)
    frame = dask.dataframe.read_csv(f"{url}/part-*.csv", blocksize=12)
    assert frame.npartitions > 3
    with dask.config.set(scheduler="threads"):
        assert frame["score"].sum().compute() == 3 * table["score"].sum()
        frame.to_parquet(f"{url}/all.parquet")
        assert len(dask.dataframe.read_parquet(f"{url}/all.parquet")) == 9


def test_zarr_writes_an_array_and_reads_a_part_of_it(url: str) -> None:
    import numpy as np
    import zarr

    content = np.arange(64).reshape(8, 8)
    array = zarr.create_array(f"{url}/cube.zarr", shape=(8, 8), chunks=(4, 4), dtype="i8")
    array[:] = content
    part = zarr.open_array(f"{url}/cube.zarr", mode="r")[2:6, 3]
    assert part.tolist() == content[2:6, 3].tolist()


def test_one_data_store_serves_many_threads_at_once(url: str) -> None:
    opened = DataStoreFileSystem(url.replace("craftsync://dev/", "dev:"))
    together = Barrier(8)

    def work(number: int) -> bytes:
        together.wait(60)
        path = f"thread/{number}.txt"
        for content in (b"first", f"{number}".encode() * 1000):
            opened.pipe_file(path, content)
        assert opened.info(path)["size"] >= 1000
        opened.rm(path) if number % 2 else None
        return b"" if number % 2 else bytes(opened.cat_file(path))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(8)))
    assert found == [b"" if number % 2 else f"{number}".encode() * 1000 for number in range(8)]
    assert len(opened.find("thread")) == 4
