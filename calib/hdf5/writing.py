"""Tables of ctapipe HDF5 files, written.

Booleans are HDF5 bit fields (written any other way they come back as integers), texts are UTF-8
of fixed length, and every table is compressed by blosc and carries checksums.
"""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import h5py
import hdf5plugin  # noqa: F401  registers the blosc filter, without which no table can be written
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "Column",
    "LargeFile",
    "create_file",
    "create_large_file",
    "set_attributes",
    "write_table",
]

#: PyTables' own limit on a chunk, used by ctapipe for every table it writes.
CHUNK_BYTES = 65535
#: Registered HDF5 filter id of blosc, and the code of zstd inside it.
BLOSC, ZSTD = 32001, 5
COMPRESSION_LEVEL = 5
#: Blosc keeps the size of an element, here a row, in one byte.
LARGEST_TYPE_BYTES = 255
BYTE_SHUFFLE = 1


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


def create_file(path: Path | BinaryIO) -> h5py.File:
    """Create a new HDF5 file with the root attributes PyTables expects.

    Parameters
    ----------
    path : Path or binary stream
        The file; it must not exist. In an `io.BytesIO`, an HDF5 library that fails to flush and
        takes the interpreter with it, as on a full disk, is no danger.

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
    rows = _packed(path, columns)
    booleans = {name for name, column in columns.items() if column.data.dtype == np.bool_}
    dataset = _create_dataset(file, path, rows, booleans)
    set_attributes(dataset, {"CLASS": "TABLE", "VERSION": "2.7", "TITLE": path.rpartition("/")[2]})
    dataset.attrs["NROWS"] = np.int64(len(rows))
    for index, (name, column) in enumerate(columns.items()):
        set_attributes(dataset, {f"FIELD_{index}_NAME": name})
        set_attributes(dataset, column.attributes(index, name, rows.dtype[name].base))
    set_attributes(dataset, attributes or {})


def _packed(path: str, columns: Mapping[str, Column]) -> npt.NDArray[np.void]:
    """Rows of a table as they are on disk."""
    stored = {name: _stored(column.data) for name, column in columns.items()}
    lengths = {len(data) for data in stored.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns of {path} differ in length: {sorted(lengths)}")
    (n_rows,) = lengths
    rows = np.empty(n_rows, [(name, data.dtype, data.shape[1:]) for name, data in stored.items()])
    for name, data in stored.items():
        rows[name] = data
    return rows


def _stored(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert to the dtype on disk: UTF-8 bytes for text, ``u1`` for booleans."""
    data = np.asarray(data)
    if data.dtype.kind == "U":
        encoded = np.strings.encode(data, "utf-8") if data.size else np.empty(data.shape, "S1")
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
    shuffle_bytes = row_bytes if row_bytes <= LARGEST_TYPE_BYTES else 1
    options = (2, 2, shuffle_bytes, chunk_rows * row_bytes, COMPRESSION_LEVEL, BYTE_SHUFFLE, ZSTD)
    create.set_filter(BLOSC, h5py.h5z.FLAG_OPTIONAL, options)
    create.set_fletcher32()
    create.set_obj_track_times(False)  # equal content shall be equal bytes
    space = h5py.h5s.create_simple((len(rows),), (h5py.h5s.UNLIMITED,))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    identifier = h5py.h5d.create(file.id, path.encode(), compound, space, dcpl=create, lcpl=links)
    if len(rows):
        identifier.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=compound)
    return h5py.Dataset(identifier)


class _Stream(io.FileIO):
    """A new file that remembers what went wrong instead of telling HDF5.

    An HDF5 library that fails to flush, as on a full disk, cannot close the file any more and takes
    the interpreter with it. So it is told that all is well; whoever writes asks `check`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401  any buffer
        """Write all of it, or remember why not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or remember why not."""
        try:
            return super().truncate(size) if self._error is None else size or 0
        except OSError as error:
            self._error = error
            return size or 0

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error


@dataclass(frozen=True)
class LargeFile:
    """A file under construction whose tables grow part by part, so that memory does not.

    Parameters
    ----------
    file : h5py.File
        The open file.
    stream : _Stream
        What it is written to.
    """

    file: h5py.File
    stream: _Stream

    def append(
        self, path: str, columns: Mapping[str, Column], attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Add rows to a table, or make it: see `write_table`.

        Raises
        ------
        ValueError
            If the columns differ in length, or from those of the rows before.
        OSError
            If the disk is full or fails.
        """
        if path not in self.file:
            write_table(self.file, path, columns, attributes)
        else:
            _append_rows(self.file[path], _packed(path, columns))
        self.stream.check()


@contextmanager
def create_large_file(path: Path) -> Iterator[LargeFile]:
    """Create a new file on the disk; when the block ends it is complete there.

    Raises
    ------
    FileExistsError
        If the file exists.
    OSError
        If the disk is full or fails. The file is then of no use.
    """
    with _Stream(path) as stream:
        try:
            with create_file(stream) as file:
                yield LargeFile(file, stream)
        finally:  # what HDF5 stumbled over afterwards is not the reason
            stream.check()
        os.fsync(stream.fileno())


def _append_rows(dataset: h5py.Dataset, rows: npt.NDArray[np.void]) -> None:
    if dataset.dtype.names != rows.dtype.names or dataset.dtype.itemsize != rows.dtype.itemsize:
        raise ValueError(f"{dataset.name} has rows of {dataset.dtype}, these are of {rows.dtype}")
    if not len(rows):
        return
    before = len(dataset)
    dataset.resize(before + len(rows), axis=0)
    space = dataset.id.get_space()
    space.select_hyperslab((before,), (len(rows),))
    memory = h5py.h5s.create_simple((len(rows),))
    # The file's own type: h5py would not know the bit fields.
    dataset.id.write(memory, space, rows, mtype=dataset.id.get_type())
    dataset.attrs.modify("NROWS", np.int64(len(dataset)))
