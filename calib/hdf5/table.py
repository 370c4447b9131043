"""A table of an open ctapipe HDF5 file: its columns, its attributes, its rows.

The reading half of `arraycal.calib.hdf5.file`, which finds tables; see there for the facts of the
format.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  registers the blosc filter, without which no table can be read
import numpy as np

from arraycal.calib.errors import CannotCompute, DamagedFile
from arraycal.calib.hdf5.elsewhere import refuse_rows_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

__all__ = [
    "DAMAGE",
    "MAX_ROWS",
    "NO_TABLE",
    "Scratch",
    "Table",
    "attribute_text",
    "is_table",
    "sound",
]

#: HDF5 filters of PyTables and h5py: deflate, shuffle, fletcher32, bzip2, lzf, blosc, blosc2. Some
#: of the others make libhdf5 crash on parameters that make no sense.
FILTERS = frozenset({1, 2, 3, 307, 32000, 32001, 32026})

#: Rows of a table: a hundred times those of the largest block.
MAX_ROWS = 1_000_000_000
#: Bytes of a row, and of a chunk, which is read as a whole. Those of ctapipe have about 1,000, and
#: chunks of 65,535.
MAX_ROW_BYTES, MAX_CHUNK_BYTES = 1 << 20, 1 << 28
#: Bytes of rows in memory at a time.
MAX_READ_BYTES = 1 << 32
#: Rows of a large table to read at a time.
PORTION_ROWS = 400_000
#: Rows of a table that is no table of events, such as positions logged 50 times a second.
MAX_FEW_ROWS = 5_000_000
#: Tables of fewer bytes are read in no time, whether their rows were written or not.
UNCHECKED_BYTES = 1 << 20

#: What h5py raises, by no recognisable system, when the structure of a file makes no sense.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class sound:  # noqa: N801  reads as the statement it is used in
    """Turn what h5py raises on a damaged file into `DamagedFile`.

    Entered six times a table; a generator-based context manager takes three times as long.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What is being read.
    """

    __slots__ = ("path", "what")

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Translate the error."""
        if isinstance(error, DAMAGE):
            raise DamagedFile(
                f"{self.path}: {self.what} cannot be read, the file is damaged ({error}). "
                "Copy or produce it again."
            ) from error


def attribute_text(value: Any) -> str:  # noqa: ANN401  h5py attributes have no common type
    """Text of an attribute, whichever of HDF5's string types holds it."""
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


class Scratch:
    """Memory that many tables are read into, one after the other.

    Fresh memory for each costs as much as decompressing into it.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def rows(self, n_rows: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Rows to be overwritten; they share their memory with those of the last call."""
        needed = n_rows * dtype.itemsize
        if self._bytes.size < needed:
            self._bytes = np.empty(needed, np.uint8)
        return np.frombuffer(self._bytes, dtype, n_rows)


@dataclass(frozen=True)
class Table:
    """A table of an open file.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        The compound dataset. Its low-level handle, because a block has hundreds of tables and
        h5py's own object for each costs as much as reading it.
    name : str
        Absolute path of the table inside its file.
    path : Path
        The file, for messages.
    """

    dataset: h5py.h5d.DatasetID
    name: str
    path: Path

    def __post_init__(self) -> None:
        """Refuse what is no table at all, is elsewhere, or is larger than any table can be."""
        with sound(self.path, self.name):
            refuse_rows_elsewhere(self._creation, self.name, self.path)
            if not is_table(self.file_type, self.space):
                raise CannotCompute(NO_TABLE.format(self.path, self.name))
            self._refuse_absurd_size()
        stated = self.attribute("NROWS")
        if stated and stated != str(len(self)):
            raise CannotCompute(
                f"{self.path}: {self.name} should have {stated} rows and has {len(self)}: the file "
                "is damaged, or was being written. Copy or produce it again."
            )

    def _refuse_absurd_size(self) -> None:
        """Refuse a table that declares more than it can hold: reading it would never end."""
        row_bytes = self.file_type.get_size()
        found = f"{len(self):,} rows of {row_bytes:,} bytes"
        if len(self) > MAX_ROWS or row_bytes > MAX_ROW_BYTES:
            raise CannotCompute(
                f"{self.path}: {self.name} declares {found}; expected at most {MAX_ROWS:,} rows "
                f"of at most {MAX_ROW_BYTES:,} bytes. The file is damaged: produce it again."
            )
        if self.chunk_rows * row_bytes > MAX_CHUNK_BYTES:
            raise CannotCompute(
                f"{self.path}: {self.name} is stored in chunks of {self.chunk_rows:,} rows of "
                f"{row_bytes:,} bytes; expected at most {MAX_CHUNK_BYTES:,} bytes. Produce it "
                "again."
            )
        if len(self) * row_bytes > UNCHECKED_BYTES and len(self) > self._written_rows():
            raise CannotCompute(
                f"{self.path}: {self.name} declares {found}, of which {self._written_rows():,} at "
                "most were ever written. The file is damaged: produce it again."
            )

    def _written_rows(self) -> int:
        """Rows that there can be in what the file holds of the table."""
        if self._creation.get_layout() == h5py.h5d.CHUNKED:
            return self.chunk_rows * int(self.dataset.get_num_chunks())
        return int(self.dataset.get_storage_size()) // int(self.file_type.get_size())

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n_rows

    @cached_property
    def _creation(self) -> h5py.h5p.PropDCID:
        """How the table is stored."""
        return self.dataset.get_create_plist()

    @cached_property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.space.get_simple_extent_dims()[0])

    @cached_property
    def file_type(self) -> h5py.h5t.TypeID:
        """Type of the rows in the file."""
        return self.dataset.get_type()

    @cached_property
    def space(self) -> h5py.h5s.SpaceID:
        """Shape of the table in the file, and which rows of it are read next."""
        return self.dataset.get_space()

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the rows in memory."""
        with sound(self.path, f"the column types of {self.name}"):
            return _row_type(self.file_type.encode())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in file order."""
        return tuple(self.dtype.names or ())

    @cached_property
    def chunk_rows(self) -> int:
        """Rows per chunk; reading in multiples of it never decompresses a chunk twice."""
        chunked = self._creation.get_layout() == h5py.h5d.CHUNKED
        return int(self._creation.get_chunk()[0]) if chunked else 1

    @cached_property
    def booleans(self) -> frozenset[str]:
        """Columns of truth values: bit fields, which h5py shows as bytes, and h5py's own bools."""
        return _booleans(self.file_type.encode())

    def unit(self, column: str) -> str:
        """Unit of a column in VOUnit syntax, empty for none."""
        return self._field_attribute(column, "UNIT")

    def time_format(self, column: str) -> str:
        """``ctao_high_res``, ``mjd`` or empty for a column that is no time."""
        return self._field_attribute(column, "TIME_FORMAT")

    def attribute(self, key: str) -> str:
        """Text of an attribute of the table; empty when it is absent."""
        with sound(self.path, f"attribute {key}"):
            return _quick_text(self.dataset, key)

    def _field_attribute(self, column: str, key: str) -> str:
        return self.attribute(f"CTAFIELD_{self.columns.index(column)}_{key}")

    def require(self, *columns: str) -> None:
        """Raise `CannotCompute` unless the table has these columns; the nearest are named."""
        for column in columns:
            if column not in self.columns:
                near = get_close_matches(column, self.columns, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise CannotCompute(
                    f"{self.path}: {self.name} has no column {column}; "
                    f"{hint}It has {', '.join(self.columns)}."
                )

    def read(
        self, start: int = 0, stop: int | None = None, scratch: Scratch | None = None
    ) -> npt.NDArray[Any]:
        """Read whole rows.

        Parameters
        ----------
        start, stop : int
            Half-open row range; `stop` defaults to the end.
        scratch : Scratch, optional
            Memory to read into: the rows are gone with the next read into it.

        Returns
        -------
        array, shape (stop - start,)
            Structured array with one field per column.

        Raises
        ------
        CannotCompute
            If a chunk fails its checksum or cannot be decompressed, or the rows are too many to be
            held in memory.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        n_rows = max(stop - start, 0)
        if n_rows == 0:
            return np.empty(0, self.dtype)
        self.require_memory(n_rows)
        with sound(self.path, f"rows {start} to {stop} of {self.name}"):
            self._check_filters()
            if self.dtype.hasobject or self.dtype.itemsize != self.file_type.get_size():
                # Texts of variable length, or rows numpy cannot view: let h5py convert them.
                return np.asarray(h5py.Dataset(self.dataset)[start:stop])
            rows = (scratch or Scratch()).rows(n_rows, self.dtype)
            memory = stored = h5py.h5s.ALL
            if n_rows != len(self):
                memory, stored = h5py.h5s.create_simple((n_rows,)), self.space
                stored.select_hyperslab((start,), (n_rows,))
            # Asking for the file's own type avoids a conversion of every row, which the
            # bit-field booleans would otherwise trigger (1.5 times slower).
            self.dataset.read(memory, stored, rows, mtype=self.file_type)
        return rows

    def require_memory(self, n_rows: int) -> None:
        """Raise `CannotCompute` if rows are too many to be held in memory at once."""
        size = n_rows * self.dtype.itemsize
        if size > MAX_READ_BYTES:
            raise CannotCompute(
                f"{self.path}: {n_rows:,} rows of {self.name} are {size:,} bytes, too many to be "
                f"read at once (at most {MAX_READ_BYTES:,}). Split the file."
            )

    def portions(self, n_rows: int = PORTION_ROWS) -> Iterator[npt.NDArray[Any]]:
        """Read all rows, front to back, in whole chunks of about `n_rows`; see `read`."""
        step = -(-n_rows // self.chunk_rows) * self.chunk_rows
        for start in range(0, len(self), step):
            yield self.read(start, start + step)

    def read_few(self, most: int = MAX_FEW_ROWS) -> npt.NDArray[Any]:
        """Read all rows of a table that has few, whatever the size of the block.

        Raises
        ------
        CannotCompute
            If there are more than `most`; else as `read`.
        """
        if len(self) > most:
            raise CannotCompute(
                f"{self.path}: {self.name} has {len(self):,} rows, expected at most {most:,}. "
                "The file is damaged: produce it again."
            )
        return self.read()

    @cached_property
    def _filters(self) -> frozenset[int]:
        creation = self._creation
        return frozenset(creation.get_filter(i)[0] for i in range(creation.get_nfilters()))

    def _check_filters(self) -> None:
        if self._filters - FILTERS:
            strange = sorted(self._filters - FILTERS)
            raise ValueError(f"filters {strange}, which PyTables does not use")

    def column(self, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Copy of one column of `rows`, native; truth values as bool, text as str."""
        values = rows[name]
        if name in self.booleans:
            return np.asarray(values != 0)
        if values.dtype.kind == "S":
            return np.strings.decode(values, "utf-8", "replace")
        if values.dtype.kind == "O":
            return np.array([attribute_text(value) for value in values], np.str_)
        return values.astype(values.dtype.newbyteorder("="))


@lru_cache(maxsize=256)
def _row_type(encoded: bytes) -> np.dtype[Any]:
    """Numpy type of a compound; the tables of one group share it, and h5py derives it slowly."""
    dtype: np.dtype[Any] = h5py.h5t.decode(encoded).dtype
    places = sorted((field[1], field[0].itemsize) for field in (dtype.fields or {}).values())
    if any(at + size > after for (at, size), (after, _) in pairwise(places)):
        raise ValueError(f"overlapping columns {dtype}")
    return dtype


@lru_cache(maxsize=256)
def _booleans(encoded: bytes) -> frozenset[str]:
    """Columns of truth values of a compound."""
    file_type, dtype = h5py.h5t.decode(encoded), _row_type(encoded)
    return frozenset(
        name
        for index, name in enumerate(dtype.names or ())
        if dtype[index].kind == "b" or file_type.get_member_class(index) == h5py.h5t.BITFIELD
    )


def _quick_text(dataset: h5py.h5d.DatasetID, key: str) -> str:
    """Text of an attribute by the shortest way: h5py's own builds ten objects for each."""
    try:
        stored = h5py.h5a.open(dataset, key.encode())
    except KeyError:
        return ""
    kind = stored.get_type()
    size = kind.get_size()
    if stored.get_storage_size() == size:  # one value, not several
        if kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str():
            text = np.empty((), f"S{size}")
            stored.read(text, mtype=kind)
            return attribute_text(text[()])
        if kind == h5py.h5t.STD_I64LE:
            number = np.empty((), "<i8")
            stored.read(number, mtype=kind)
            return str(number)
    return attribute_text(h5py.AttributeManager(h5py.Dataset(dataset))[key])


NO_TABLE = "{}: {} is not a table of named columns."


def is_table(file_type: h5py.h5t.TypeID, space: h5py.h5s.SpaceID) -> bool:
    """Tell a table from a plain array."""
    is_compound = file_type.get_class() == h5py.h5t.COMPOUND
    return bool(is_compound and space.get_simple_extent_ndims() == 1)
