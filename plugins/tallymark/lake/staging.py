"""Parquet files through which rows travel between the warehouse and Spark."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import duckdb

from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.store.folder import FolderStore

# Types in the log of a Delta table that DuckDB calls by another name.
DUCKDB_TYPES = {"long": "bigint", "string": "varchar", "timestamp_ntz": "timestamp"}


class Staging:
    """Storage that the warehouse and Spark share: a folder next to the warehouse, or a prefix of the bucket.

    Attributes:
        uri: the address that Spark uses for it.
    """

    def __init__(self, settings: Settings, store: Store | None, schema: str):
        if settings.lake_staging:
            assert store is not None
            self._store, self._prefix, self._folder = store, f"{settings.output_prefix}staging/{schema}/", None
            self.uri = f"{settings.lake_staging.rstrip('/')}/{self._prefix}"
        else:
            # Named after the schema, so that the last build still finds its files if the warehouse is renamed.
            self._folder = settings.warehouse.absolute().parent / "staging" / schema
            self._store, self._prefix = FolderStore(self._folder), ""
            # Not as_uri(): Spark does not decode percent signs in a path.
            self.uri = f"file://{self._folder.as_posix()}/"

    def put(self, name: str, warehouse: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> str:
        """Write the rows of a query to a Parquet file in a new folder.

        Args:
            name: the folder's path below ``uri``; must be unique.

        Returns:
            The folder's URI for Spark.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            warehouse.sql(query, params=parameters or None).write_parquet(str(path), compression="zstd")
            self._store.put(f"{self._prefix}{name}/rows.parquet", path.read_bytes())
        return f"{self.uri}{name}"

    @contextmanager
    def files(self, name: str) -> Iterator[list[str]]:
        """Fetch the Parquet files of a Delta table with a single commit, and delete the copies at the end.

        Yields:
            Local paths, at least one: a table without rows gives a file without rows.
        """
        log = f"{self._prefix}{name}/_delta_log/00000000000000000000.json"
        actions = [json.loads(line) for line in self._get(log).decode().splitlines()]
        with tempfile.TemporaryDirectory() as folder:
            paths: list[str] = []
            for action in actions:
                if "add" in action:
                    path = Path(folder) / f"{len(paths)}.parquet"
                    path.write_bytes(self._get(f"{self._prefix}{name}/{unquote(action['add']['path'])}"))
                    paths.append(str(path))
            if not paths:
                paths.append(str(Path(folder) / "no_rows.parquet"))
                [schema] = [action["metaData"]["schemaString"] for action in actions if "metaData" in action]
                _write_no_rows(paths[0], json.loads(schema)["fields"])
            yield paths

    def _get(self, key: str) -> bytes:
        [stored] = self._store.list(key)
        return self._store.get(stored)

    def keep_only(self, name: str) -> None:
        """Delete the files of other builds. In a bucket, leave that to a lifecycle rule: docs/spark.md."""
        for folder in self._folder.iterdir() if self._folder else ():
            if folder.name != name:
                shutil.rmtree(folder, ignore_errors=True)


def _write_no_rows(path: str, fields: list[dict[str, str]]) -> None:
    """Write a Parquet file that has the columns of a Delta table, but no rows."""
    types = {field["name"]: DUCKDB_TYPES.get(field["type"], field["type"]) for field in fields}
    with duckdb.connect() as database:
        query = "select unnest(from_json('[]', $structure), recursive := true)"
        database.sql(query, params={"structure": json.dumps([types])}).write_parquet(path)
