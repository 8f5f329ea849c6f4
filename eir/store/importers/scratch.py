"""The DuckDB workplace of one load: its tables, and a folder for unpacked pieces that goes away.

Memory is capped and the rest spills into the folder. Long statements run in one thread beside, so
that progress is told, an interrupt ends them, and the next batch is fetched while the last is used.
DuckDB is imported here and nowhere else.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.store.importers import fields

if TYPE_CHECKING:
    import pyarrow
    from duckdb import DuckDBPyConnection

_POLL_SECONDS: Final = 0.2
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is. ``survey`` and ``read`` count plain bytes, ``sort`` the rows of one list.

    ``rows`` and ``rejects`` are those read so far in the whole load; exact at the end of each file,
    in between ``rows`` follows from the bytes.
    """

    stage: Literal["survey", "read", "sort"]
    name: str
    done: int
    total: int
    rows: int = 0
    rejects: int = 0


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a load may use: ``threads`` (0 = one for each processor), memory before it spills."""

    threads: int = 0
    memory_mib: int = 2_048


class Scratch:
    """A context manager around one DuckDB connection and its folder (0700), both gone at the end.

    Raises Refused ``extra-missing`` where DuckDB or pyarrow is not installed, ``scratch-full``
    where disk or memory did not suffice, ``scratch-unwritable`` for any other OSError inside but a
    listener's broken pipe.
    """

    def __init__(
        self, beside: Path, numbering: Numbering, timezone: ZoneInfo, effort: Effort | None = None
    ) -> None:
        _require_extra()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=".load-", dir=beside))
        except OSError as error:
            detail = f"cannot work here: {error.strerror}"
            raise Refused("scratch-unwritable", detail, where=str(beside)) from error
        try:
            self.connection = _connected(self.folder, effort or Effort())
            self._beside = ThreadPoolExecutor(1)
            fields.define(self.connection, numbering, timezone)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.interrupt()
        self._beside.shutdown()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            where = str(error.filename or self.folder)
            detail = error.strerror or str(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refused("scratch-full", detail, where=where) from error
            raise Refused("scratch-unwritable", detail, where=where) from error

    def run(self, sql: str, share: Callable[[float], None] | None = None) -> None:
        """Execute a long statement; ``share`` is told the part done, 0 … 1, while it runs."""
        self._watched(lambda: self.connection.execute(sql), share)

    def take_in(
        self,
        sql: str,
        schema: pyarrow.Schema,
        batches: Iterator[pyarrow.RecordBatch],
        tell: Callable[[], None],
    ) -> None:
        """Execute a long statement over ``coming``, a table that is read once: the batches, which
        may raise Refused or OSError. ``tell`` is called now and then meanwhile.
        """
        import pyarrow as pa

        faults: list[Refused | OSError] = []

        def fetched() -> Iterator[pyarrow.RecordBatch]:
            try:
                yield from batches
            except (Refused, OSError) as fault:  # DuckDB would make a text of it
                faults.append(fault)

        def execute() -> None:
            self.connection.register("coming", pa.RecordBatchReader.from_batches(schema, fetched()))
            self.connection.execute(sql)
            self.connection.unregister("coming")

        self._watched(execute, lambda _: tell())
        if faults:
            raise faults[0]

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The few rows of a short query."""
        return self._watched(lambda: self.connection.execute(sql, parameters).fetchall(), None)

    def batches(self, sql: str) -> Iterator[tuple[NDArray[np.generic], ...]]:
        """The columns of a query's result, batch by batch; each must be free of NULL."""
        reader = self._watched(
            lambda: self.connection.sql(sql).to_arrow_reader(limits.LOAD_BATCH_ROWS), None
        )
        fetched = self._beside.submit(next, reader, None)
        while (batch := self._awaited(fetched, None)) is not None:
            fetched = self._beside.submit(next, reader, None)
            yield tuple(column.to_numpy(zero_copy_only=True) for column in batch.columns)

    def _watched(
        self, action: Callable[[], Result], share: Callable[[float], None] | None
    ) -> Result:
        return self._awaited(self._beside.submit(action), share)

    def _awaited(self, running: Future[Result], share: Callable[[float], None] | None) -> Result:
        import duckdb

        try:
            while not wait([running], _POLL_SECONDS).done:
                if share is not None:
                    share(min(max(self.connection.query_progress(), 0.0), 100.0) / 100)
            return running.result()
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            detail = f"disk or memory for sorting ran out, or a file vanished: {error}"
            raise Refused("scratch-full", detail, where=str(self.folder)) from error
        except BaseException:
            self.connection.interrupt()
            raise


def _require_extra() -> None:
    try:
        import duckdb  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        detail = f"reading list files needs {error.name}; type: pip install 'eir[load]'"
        raise Refused("extra-missing", detail) from error


def _connected(folder: Path, effort: Effort) -> DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": f"{effort.memory_mib}MiB",
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": False,
        },
    )
    if effort.threads:
        connection.execute("SET threads = ?", [effort.threads])
    connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    return connection
