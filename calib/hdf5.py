"""Tables of ctapipe HDF5 files, read and written with h5py.

This module, with its other half `calib.hdf5_writing`, is the only one that knows how ctapipe and
PyTables encode a table: compound datasets, blosc filters, bit-field booleans, ``CTAFIELD_*``
attributes, time stamps as pairs of unsigned integers. Everything else sees structured numpy
arrays and `Column` objects.

Two facts of the format shape the code:

* a chunk is one compressed frame of whole rows, so reading one column costs as much as
  reading them all: tables are read once, as rows, in the type the file stores (no
  conversion, and the fletcher32 checksum of each chunk is verified by the library);
* booleans are HDF5 bit fields. Written any other way they come back as integers.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  registers the blosc filter, without which no table can be read
import numpy as np

from calib.errors import CannotCompute
from calib.hdf5_writing import (
    Column,
    LargeFile,
    create_file,
    create_large_file,
    set_attributes,
    sync,
    write_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "Column",
    "File",
    "LargeFile",
    "Scratch",
    "Table",
    "attribute_text",
    "child_names",
    "create_file",
    "create_large_file",
    "find_table",
    "first_telescope_table",
    "has_table",
    "open_file",
    "require_table",
    "root_attribute",
    "set_attributes",
    "sync",
    "telescope_tables",
    "write_table",
]

#: So that no other module needs h5py, not even for annotations.
File = h5py.File

#: HDF5 filters of PyTables and h5py: deflate, shuffle, fletcher32, bzip2, lzf, blosc, blosc2. Some
#: of the others make libhdf5 crash on parameters that make no sense.
FILTERS = frozenset({1, 2, 3, 307, 32000, 32001, 32026})

TELESCOPE_TABLE = re.compile(r"tel_(\d{3,})$")

#: What h5py raises, by no recognisable system, when the structure of a file makes no sense.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    h5py.File
        The open file, without a chunk cache (tables are scanned once).

    Raises
    ------
    CannotCompute
        If the file is missing, empty, truncated or not HDF5; the message says which.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise CannotCompute(f"{path}: expected a DL2 HDF5 file, found {found}. Check the path.")
    if path.stat().st_size == 0:
        raise CannotCompute(
            f"{path}: the file is empty (0 bytes). It was probably never written; produce it again."
        )
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)
    except DAMAGE as error:
        reason = "truncated" if "truncated" in str(error) else "not a readable HDF5 file"
        raise CannotCompute(f"{path}: {reason} ({error}). Copy or produce it again.") from error
    with file:
        yield file


@contextmanager
def _sound(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into `CannotCompute`."""
    try:
        yield
    except DAMAGE as error:
        raise CannotCompute(
            f"{path}: {what} cannot be read, the file is damaged ({error}). "
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
        """Refuse what is no table at all."""
        with _sound(self.path, self.name):
            if not _is_table(self.file_type, self.space):
                raise CannotCompute(_NO_TABLE.format(self.path, self.name))
        stated = self.attribute("NROWS")
        if stated and stated != str(len(self)):
            raise CannotCompute(
                f"{self.path}: {self.name} should have {stated} rows and has {len(self)}: the file "
                "is damaged, or was being written. Copy or produce it again."
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n_rows

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
        with _sound(self.path, f"the column types of {self.name}"):
            return _row_type(self.file_type.encode())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in file order."""
        return tuple(self.dtype.names or ())

    @cached_property
    def chunk_rows(self) -> int:
        """Rows per chunk; reading in multiples of it never decompresses a chunk twice."""
        creation = self.dataset.get_create_plist()
        chunked = creation.get_layout() == h5py.h5d.CHUNKED
        return int(creation.get_chunk()[0]) if chunked else 1

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
        with _sound(self.path, f"attribute {key}"):
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
            If a chunk fails its checksum or cannot be decompressed.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        n_rows = max(stop - start, 0)
        if n_rows == 0:
            return np.empty(0, self.dtype)
        with _sound(self.path, f"rows {start} to {stop} of {self.name}"):
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

    @cached_property
    def _filters(self) -> frozenset[int]:
        creation = self.dataset.get_create_plist()
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


_NO_TABLE = "{}: {} is not a table of named columns."


def _is_table(file_type: h5py.h5t.TypeID, space: h5py.h5s.SpaceID) -> bool:
    """Tell a table from a plain array."""
    is_compound = file_type.get_class() == h5py.h5t.COMPOUND
    return bool(is_compound and space.get_simple_extent_ndims() == 1)


def has_table(file: h5py.File, name: str, path: Path) -> bool:
    """Tell whether there is a table called `name`, and not something else or nothing."""
    with _sound(path, name):
        node = file.get(name)
        return isinstance(node, h5py.Dataset) and _is_table(node.id.get_type(), node.id.get_space())


def find_table(file: h5py.File, name: str, path: Path) -> Table | None:
    """Return the table called `name`, or None when the file has nothing there."""
    with _sound(path, name):
        try:
            # The short way: looking a path up in h5py costs as much as reading a small table.
            dataset = h5py.h5d.open(file.id, name.encode())
        except (KeyError, ValueError):
            node = file.get(name)
            if node is None:
                return None
            if not isinstance(node, h5py.Dataset):
                raise CannotCompute(_NO_TABLE.format(path, name)) from None
            dataset = node.id
    return Table(dataset, name, path)


def require_table(file: h5py.File, name: str, path: Path) -> Table:
    """Return the table called `name`.

    Raises
    ------
    CannotCompute
        If it is absent; the message lists what its parent group holds instead.
    """
    table = find_table(file, name, path)
    if table is not None:
        return table
    with _sound(path, name):
        parent = name.rstrip("/").rpartition("/")[0] or "/"
        while parent not in file:
            parent = parent.rpartition("/")[0] or "/"
    siblings = ", ".join(child_names(file, parent, path)) or "nothing"
    raise CannotCompute(f"{path}: table {name} is missing; {parent} holds: {siblings}.")


def child_names(file: h5py.File, group: str, path: Path) -> list[str]:
    """Names of what a group holds; empty when there is no such group."""
    with _sound(path, group):
        node = file.get(group)
        return [attribute_text(name) for name in node] if isinstance(node, h5py.Group) else []


def first_telescope_table(file: h5py.File, group: str, path: Path) -> Table | None:
    """Return the table ``tel_XXX`` of the lowest id in a group, or None when there is none."""
    names = [name for name in child_names(file, group, path) if TELESCOPE_TABLE.match(name)]
    return require_table(file, f"{group}/{min(names)}", path) if names else None


def telescope_tables(file: h5py.File, group: str, path: Path) -> dict[int, Table]:
    """Tables ``tel_XXX`` of a group, by telescope id; empty when the group is absent.

    Raises
    ------
    CannotCompute
        If the group holds anything else, which would vanish silently.
    """
    # PyTables keeps its indices under names with an underscore.
    names = [name for name in child_names(file, group, path) if not name.startswith("_")]
    strange = [name for name in names if not TELESCOPE_TABLE.match(name)]
    if strange:
        raise CannotCompute(
            f"{path}: {group} holds {', '.join(strange)}; "
            "expected one table per telescope (tel_XXX)."
        )
    found = {int(match[1]): name for name in names if (match := TELESCOPE_TABLE.match(name))}
    return {
        tel_id: _listed_table(file, f"{group}/{name}", path)
        for tel_id, name in sorted(found.items())
    }


def _listed_table(file: h5py.File, name: str, path: Path) -> Table:
    """Open what a group lists: if that fails, it is damaged, not absent."""
    table = find_table(file, name, path)
    if table is None:
        raise CannotCompute(
            f"{path}: {name} leads nowhere, the file is damaged. Copy or produce it again."
        )
    return table


def root_attribute(file: h5py.File, name: str, path: Path) -> str:
    """Text of an attribute of the whole file; empty when it is absent."""
    with _sound(path, f"attribute {name}"):
        return attribute_text(file.attrs.get(name, ""))
