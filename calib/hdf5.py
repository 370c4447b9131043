"""Tables of ctapipe HDF5 files, read and written with h5py.

This is the only module that knows how ctapipe and PyTables encode a table: compound
datasets, blosc filters, bit-field booleans, ``CTAFIELD_*`` attributes, time stamps as pairs
of unsigned integers. Everything else sees structured numpy arrays and `Column` objects.

Two facts of the format shape the code:

* a chunk is one compressed frame of whole rows, so reading one column costs as much as
  reading them all: tables are read once, as rows, in the type the file stores (no
  conversion, and the fletcher32 checksum of each chunk is verified by the library);
* booleans are HDF5 bit fields. Written any other way they come back as integers.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  registers the blosc filter, without which no table can be read
import numpy as np

from calib.errors import CannotCompute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "Column",
    "File",
    "Table",
    "attribute_text",
    "create_file",
    "find_table",
    "open_file",
    "require_table",
    "set_attributes",
    "sync",
    "telescope_tables",
    "write_table",
]

#: So that no other module needs h5py, not even for annotations.
File = h5py.File

#: PyTables' own limit on a chunk, used by ctapipe for every table it writes.
CHUNK_BYTES = 65535
#: Registered HDF5 filter id of blosc, and the code of zstd inside it.
BLOSC, ZSTD = 32001, 5
COMPRESSION_LEVEL = 5
BYTE_SHUFFLE = 1

TELESCOPE_TABLE = re.compile(r"tel_(\d{3,})$")


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
        msg = f"{path}: expected a DL2 HDF5 file, found {found}. Check the path."
        raise CannotCompute(msg)
    if path.stat().st_size == 0:
        msg = f"{path}: the file is empty (0 bytes). It was probably never written; produce it again."
        raise CannotCompute(msg)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        reason = "truncated" if "truncated" in str(error) else "not a readable HDF5 file"
        msg = f"{path}: {reason} ({error}). Copy or produce it again."
        raise CannotCompute(msg) from error
    with file:
        yield file


def create_file(path: Path) -> h5py.File:
    """Create a new HDF5 file with the root attributes PyTables expects.

    Parameters
    ----------
    path : Path
        The file; it must not exist.

    Returns
    -------
    h5py.File
        The open file; the caller closes it.

    Raises
    ------
    FileExistsError
        If the file exists.
    """
    file = h5py.File(path, "x")
    set_attributes(
        file, {"CLASS": "GROUP", "PYTABLES_FORMAT_VERSION": "2.1", "TITLE": "", "VERSION": "1.0"}
    )
    return file


def attribute_text(value: Any) -> str:  # noqa: ANN401  h5py attributes have no common type
    """Text of an attribute, whichever of HDF5's string types holds it."""
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


@dataclass(frozen=True)
class Column:
    """One column to be written.

    Parameters
    ----------
    data : array, shape (n_rows, ...)
        Values. ``bool`` becomes a bit field, ``str`` or ``bytes`` a fixed-length string.
    unit : str
        Unit in VOUnit syntax (``TeV``, ``m``, ``deg``); empty for none.
    name : str
        Name inside its container, without the prefix of the reconstructor; defaults to
        the column's own name.
    description : str
        One line for the reader of the file.
    time_format : str
        ``ctao_high_res`` (data of shape (n, 2): TAI seconds and quarter nanoseconds) or
        ``mjd`` when the column is a time, else empty.
    transform : str
        Any other ctapipe transform (``enum``, ``tel_list_to_mask``).
    """

    data: npt.NDArray[Any]
    unit: str = ""
    name: str = ""
    description: str = ""
    time_format: str = ""
    transform: str = ""

    def attributes(self, index: int, name: str, stored: np.dtype[Any]) -> dict[str, Any]:
        """Return the ``CTAFIELD`` attributes of this column at position `index`."""
        prefix = f"CTAFIELD_{index}_"
        text = {"NAME": self.name or name, "DESC": self.description}
        if self.time_format:
            text |= {"TRANSFORM": "time", "TIME_SCALE": "tai", "TIME_FORMAT": self.time_format}
        elif self.unit:
            text |= {"TRANSFORM": "quantity", "UNIT": self.unit}
        elif stored.kind == "S":
            text |= {"TRANSFORM": "string"}
        elif self.transform:
            text |= {"TRANSFORM": self.transform}
        attributes: dict[str, Any] = {prefix + key: value for key, value in text.items()}
        if stored.kind == "S":
            attributes[prefix + "MAXLEN"] = stored.itemsize
        return attributes


@dataclass(frozen=True)
class Table:
    """A table of an open file.

    Parameters
    ----------
    dataset : h5py.Dataset
        The compound dataset.
    path : Path
        The file, for messages.
    """

    dataset: h5py.Dataset
    path: Path
    _type: h5py.h5t.TypeID = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no table at all."""
        if not isinstance(self.dataset, h5py.Dataset) or self.dataset.dtype.names is None:
            msg = f"{self.path}: {self.dataset.name} is not a table of named columns."
            raise CannotCompute(msg)
        object.__setattr__(self, "_type", self.dataset.id.get_type())

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.dataset.shape[0])

    @property
    def name(self) -> str:
        """Absolute path of the table inside its file."""
        return str(self.dataset.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in file order."""
        return tuple(self.dataset.dtype.names)

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk; reading in multiples of it never decompresses a chunk twice."""
        return int(self.dataset.chunks[0]) if self.dataset.chunks else max(len(self), 1)

    @cached_property
    def units(self) -> dict[str, str]:
        """Unit of every column that has one, in VOUnit syntax."""
        attributes = self.dataset.attrs
        return {
            name: attribute_text(attributes[key])
            for index, name in enumerate(self.columns)
            if (key := f"CTAFIELD_{index}_UNIT") in attributes
        }

    @cached_property
    def booleans(self) -> frozenset[str]:
        """Columns stored as bit fields, which h5py shows as plain bytes."""
        return frozenset(
            name
            for index, name in enumerate(self.columns)
            if self._type.get_member_class(index) in (h5py.h5t.BITFIELD, h5py.h5t.ENUM)
        )

    def time_format(self, column: str) -> str:
        """``ctao_high_res``, ``mjd`` or empty for a column that is no time."""
        key = f"CTAFIELD_{self.columns.index(column)}_TIME_FORMAT"
        return attribute_text(self.dataset.attrs.get(key, ""))

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read whole rows.

        Parameters
        ----------
        start, stop : int
            Half-open row range; `stop` defaults to the end.

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
        dtype = self.dataset.dtype
        if n_rows == 0:
            return np.empty(0, dtype)
        try:
            if dtype.itemsize != self._type.get_size():
                # Padded or foreign-endian compound: numpy cannot view the file's rows.
                return np.asarray(self.dataset[start:stop])
            rows = np.empty(n_rows, dtype)
            space = self.dataset.id.get_space()
            space.select_hyperslab((start,), (n_rows,))
            memory = h5py.h5s.create_simple((n_rows,))
            # Asking for the file's own type avoids a conversion of every row, which the
            # bit-field booleans would otherwise trigger (1.5 times slower).
            self.dataset.id.read(memory, space, rows, mtype=self._type)
        except OSError as error:
            msg = (
                f"{self.path}: rows {start} to {stop} of {self.name} cannot be read, the data are "
                f"damaged ({error}). Copy or produce the file again."
            )
            raise CannotCompute(msg) from error
        return rows

    def column(self, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One column of `rows`, contiguous; bit fields as bool, text as str."""
        values = rows[name]
        if name in self.booleans:
            return np.ascontiguousarray(values).view(np.bool_)
        if values.dtype.kind == "S":
            return np.char.decode(values, "utf-8")
        return np.ascontiguousarray(values)


def find_table(file: h5py.File, name: str, path: Path) -> Table | None:
    """Return the table called `name`, or None when the file has nothing there."""
    node = file.get(name)
    return None if node is None else Table(node, path)


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
    parent = name.rstrip("/").rpartition("/")[0] or "/"
    while parent not in file:
        parent = parent.rpartition("/")[0] or "/"
    siblings = ", ".join(file[parent]) or "nothing"
    msg = f"{path}: table {name} is missing; {parent} holds: {siblings}."
    raise CannotCompute(msg)


def telescope_tables(file: h5py.File, group: str, path: Path) -> dict[int, Table]:
    """Tables ``tel_XXX`` of a group, by telescope id; empty when the group is absent."""
    node = file.get(group)
    if not isinstance(node, h5py.Group):
        return {}
    found = {int(m[1]): node[name] for name in node if (m := TELESCOPE_TABLE.match(name))}
    return {tel_id: Table(found[tel_id], path) for tel_id in sorted(found)}


def set_attributes(node: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
    """Set attributes; text as fixed-length UTF-8, the only encoding ctapipe reads as text."""
    for key, value in attributes.items():
        if isinstance(value, str):
            encoded = value.encode()
            dtype = h5py.string_dtype("utf-8", max(len(encoded), 1))
            node.attrs.create(key, np.array(encoded, dtype), dtype=dtype)
        else:
            node.attrs[key] = value


def write_table(
    file: h5py.File,
    path: str,
    columns: Mapping[str, Column],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a table that ctapipe and PyTables take for their own.

    Parameters
    ----------
    file : h5py.File
        A file open for writing.
    path : str
        Absolute path of the new table; missing groups are created.
    columns : mapping of str to Column
        Columns in order, all of the same length.
    attributes : mapping, optional
        Further attributes of the table (its metadata).

    Raises
    ------
    ValueError
        If the columns differ in length.
    """
    stored = {name: _stored(column.data) for name, column in columns.items()}
    lengths = {len(data) for data in stored.values()}
    if len(lengths) != 1:
        msg = f"columns of {path} differ in length: {sorted(lengths)}"
        raise ValueError(msg)
    (n_rows,) = lengths
    rows = np.empty(n_rows, [(name, data.dtype, data.shape[1:]) for name, data in stored.items()])
    for name, data in stored.items():
        rows[name] = data
    booleans = {name for name, column in columns.items() if column.data.dtype == np.bool_}
    dataset = _create_dataset(file, path, rows, booleans)
    set_attributes(dataset, {"CLASS": "TABLE", "VERSION": "2.7", "TITLE": path.rpartition("/")[2]})
    dataset.attrs["NROWS"] = np.int64(n_rows)
    for index, (name, column) in enumerate(columns.items()):
        set_attributes(dataset, {f"FIELD_{index}_NAME": name})
        set_attributes(dataset, column.attributes(index, name, stored[name].dtype))
    set_attributes(dataset, attributes or {})


def _stored(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert to the dtype on disk: bytes for text, u1 for booleans."""
    data = np.asarray(data)
    if data.dtype.kind == "U":
        encoded = np.char.encode(data, "utf-8") if data.size else np.empty(data.shape, "S1")
        return encoded.astype(f"S{max(encoded.dtype.itemsize, 1)}")
    return data.astype(np.uint8) if data.dtype == np.bool_ else data


def _create_dataset(
    file: h5py.File, path: str, rows: npt.NDArray[Any], booleans: set[str]
) -> h5py.Dataset:
    """Create the compound dataset through the low-level API, which alone offers bit fields."""
    compound = h5py.h5t.create(h5py.h5t.COMPOUND, rows.dtype.itemsize)
    for name in rows.dtype.names or ():
        dtype, offset = rows.dtype.fields[name][:2]  # type: ignore[index]
        member = h5py.h5t.STD_B8LE if name in booleans else h5py.h5t.py_create(dtype, logical=True)
        compound.insert(name.encode(), offset, member)
    row_bytes = rows.dtype.itemsize
    chunk_rows = max(CHUNK_BYTES // row_bytes, 1)
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((chunk_rows,))
    shuffle_bytes = row_bytes if row_bytes < 256 else 1  # noqa: PLR2004  blosc's type size is one byte
    options = (2, 2, shuffle_bytes, chunk_rows * row_bytes, COMPRESSION_LEVEL, BYTE_SHUFFLE, ZSTD)
    create.set_filter(BLOSC, h5py.h5z.FLAG_OPTIONAL, options)
    create.set_fletcher32()
    space = h5py.h5s.create_simple((len(rows),), (h5py.h5s.UNLIMITED,))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)  # noqa: FBT003  h5py's own signature
    identifier = h5py.h5d.create(
        file.id, path.encode(), compound, space, dcpl=create, lcpl=links
    )
    if len(rows):
        identifier.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=compound)
    return h5py.Dataset(identifier)


def sync(path: Path) -> None:
    """Flush a closed file to the disk, so that a rename after it never exposes a torn file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
