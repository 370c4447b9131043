"""Quality criteria: text of a configuration to polars expressions, by a whitelist.

`syntax` reads the text, `terms` knows units and types, `translation` goes from one to the other,
`compiler` is what callers use. Nothing is ever evaluated as Python.
"""

from arraycal.calib.criteria.compiler import (
    Criterion,
    columns_of,
    compile_criteria,
    compile_criterion,
)
from arraycal.calib.criteria.syntax import CriterionError, UnknownColumn

__all__ = [
    "Criterion",
    "CriterionError",
    "UnknownColumn",
    "columns_of",
    "compile_criteria",
    "compile_criterion",
]
