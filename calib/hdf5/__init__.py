"""Tables of ctapipe HDF5 files, read and written with h5py.

This folder is the only one that knows how ctapipe and
PyTables encode a table: compound datasets, blosc filters, bit-field booleans, ``CTAFIELD_*``
attributes, time stamps as pairs of unsigned integers. Everything else sees structured numpy
arrays and `Column` objects.

Two facts of the format shape the code:

* a chunk is one compressed frame of whole rows, so reading one column costs as much as
  reading them all: tables are read once, as rows, in the type the file stores (no
  conversion, and the fletcher32 checksum of each chunk is verified by the library);
* booleans are HDF5 bit fields. Written any other way they come back as integers.
"""

from arraycal.calib.hdf5.file import (
    File,
    child_names,
    find_table,
    first_telescope_table,
    has_table,
    is_being_written,
    open_file,
    require_table,
    root_attribute,
    telescope_tables,
)
from arraycal.calib.hdf5.table import MAX_ROWS, Scratch, Table, attribute_text
from arraycal.calib.hdf5.writing import (
    Column,
    LargeFile,
    create_file,
    create_large_file,
    set_attributes,
    write_table,
)

__all__ = [
    "MAX_ROWS",
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
    "is_being_written",
    "open_file",
    "require_table",
    "root_attribute",
    "set_attributes",
    "telescope_tables",
    "write_table",
]
