"""Quality criteria: text of a configuration to polars expressions, by a whitelist.

`syntax` reads the text, `terms` knows units and types, `translation` goes from one to the other,
`compiler` is what callers use. Nothing is ever evaluated as Python.
"""

from calib.criteria.compiler import (
    Criterion,
    CriterionError,
    UnknownColumn,
    columns_of,
    compile_criteria,
    compile_criterion,
)

__all__ = [
    "Criterion",
    "CriterionError",
    "UnknownColumn",
    "columns_of",
    "compile_criteria",
    "compile_criterion",
]
