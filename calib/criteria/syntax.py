"""What a quality criterion may contain, and where in its text something else stands.

Takes the text; gives its syntax tree after every node has been found on a short list. The
tree is data: nothing here or later evaluates it as Python.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from arraycal.calib.errors import ArraycalError

__all__ = [
    "FUNCTION_ARGUMENTS",
    "REDUCTIONS",
    "CriterionError",
    "CriterionText",
    "UnknownColumn",
    "columns_in",
    "function_name",
    "parse",
]

#: Functions, bare or as ``np.<name>``, and how many arguments each takes.
FUNCTION_ARGUMENTS = {
    "abs": 1,
    "sqrt": 1,
    "log": 1,
    "log10": 1,
    "exp": 1,
    "sin": 1,
    "cos": 1,
    "tan": 1,
    "isfinite": 1,
    "isnan": 1,
    "arctan2": 2,
    "hypot": 2,
    "minimum": 2,
    "maximum": 2,
}
#: Functions, named in the same ways, of a column with a value for each telescope of the array:
#: over the telescopes of a row, ``np.sum(column, axis=1)``.
REDUCTIONS = ("count_nonzero", "sum", "any", "all")
FUNCTIONS = (*FUNCTION_ARGUMENTS, *REDUCTIONS)
NUMPY_CONSTANTS = ("pi",)
UNITS, NUMPY = "u", "np"

# Far above any sensible criterion, far below what strains the parser or the stack.
MAX_LENGTH = 2000
MAX_DEPTH = 60
#: Characters of the text shown around a mistake.
SHOWN = 90

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow),
    *(ast.BitAnd, ast.BitOr, ast.BitXor),
    *(ast.UAdd, ast.USub, ast.Not, ast.Invert, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_NODES = (
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.Call, ast.Attribute, ast.Name, ast.Constant),
)
_REFUSED = {
    ast.Subscript: "indexing with []",
    ast.Lambda: "a lambda",
    ast.NamedExpr: "an assignment",
    ast.IfExp: "if ... else",
    ast.JoinedStr: "a formatted string",
    ast.Starred: "a starred argument",
    ast.Tuple: "a tuple",
    ast.List: "a list",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.FloorDiv: "the operator //",
    ast.MatMult: "the operator @",
    ast.LShift: "the operator <<",
    ast.RShift: "the operator >>",
    ast.In: "the operator 'in'",
    ast.NotIn: "the operator 'not in'",
    ast.Is: "the operator 'is'",
    ast.IsNot: "the operator 'is not'",
}


class CriterionError(ArraycalError, ValueError):
    """A quality criterion that cannot be used: what is wrong with it, and where in its text."""


class UnknownColumn(CriterionError):
    """A quality criterion that may be sound, of a column that is not in the file."""


@dataclass(frozen=True)
class CriterionText:
    """The text of a criterion, to point at in messages.

    Attributes
    ----------
    name : str
        What the configuration calls the criterion.
    text : str
        Its text, in one line.
    """

    name: str
    text: str

    def error(self, message: str, node: ast.expr | None = None) -> CriterionError:
        """Make the error for a node, or for the text as a whole."""
        if node is None:
            return self.error_at(message, 0, len(self.text))
        # the parser counts bytes of UTF-8
        encoded = self.text.encode()
        start = len(encoded[: node.col_offset].decode())
        stop = len(encoded[: node.end_col_offset].decode())
        return self.error_at(message, start, stop)

    def error_at(self, message: str, start: int, stop: int) -> CriterionError:
        """Make the error for a range of characters."""
        first = max(0, start - SHOWN // 2)
        visible = "".join(c if c.isprintable() else "?" for c in self.text)
        window = visible[first : first + SHOWN]
        width = max(1, min(stop, first + len(window)) - start)
        marker = " " * (start - first) + "^" * width
        return CriterionError(f"criterion {self.name!r}: {message}\n    {window}\n    {marker}")


def parse(name: str, text: str) -> tuple[CriterionText, ast.expr]:
    """Parse a criterion and refuse whatever is not on the list.

    Parameters
    ----------
    name : str
        What the configuration calls the criterion.
    text : str
        The criterion.

    Returns
    -------
    CriterionText
        To report later mistakes with.
    ast.expr
        The checked syntax tree.

    Raises
    ------
    CriterionError
        If the text is no expression, too long, too deep or contains anything that is not
        allowed.
    """
    source = CriterionText(name, " ".join(text.split()))
    if len(source.text) > MAX_LENGTH:
        raise source.error_at(f"longer than {MAX_LENGTH} characters", 0, 1)
    if "#" in source.text:  # the lines have been joined: a comment would swallow the rest
        position = source.text.index("#")
        raise source.error_at("comments are not allowed", position, position + 1)
    tree = _parse(source)
    _check(source, tree)
    return source, tree


def _parse(source: CriterionText) -> ast.expr:
    if not source.text:
        raise source.error("the criterion is empty")
    try:
        return ast.parse(source.text, mode="eval").body
    except SyntaxError as error:
        start = max(0, min((error.offset or 1) - 1, len(source.text) - 1))
        raise source.error_at(f"not an expression: {error.msg}", start, start + 1) from None
    except (ValueError, MemoryError, RecursionError) as error:  # NUL bytes, thousands of signs
        raise source.error(f"not an expression: {error}") from None


def _check(source: CriterionText, tree: ast.expr) -> None:
    waiting = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise source.error(f"nested more than {MAX_DEPTH} deep", node)
        if not isinstance(node, _NODES):
            what = _REFUSED.get(type(node), type(node).__name__)
            raise source.error(f"{what} is not allowed in a criterion", node)
        _check_node(source, node)
        waiting += [(operand, depth + 1) for operand in _operands(node)]


def _check_node(source: CriterionText, node: ast.expr) -> None:
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.operator | ast.unaryop | ast.boolop | ast.cmpop) and not isinstance(
            part, _OPERATORS
        ):
            what = _REFUSED.get(type(part), type(part).__name__)
            raise source.error(f"{what} is not allowed in a criterion", node)
    if isinstance(node, ast.Constant) and type(node.value) not in (bool, int, float):
        raise source.error("only numbers, True and False can be written out", node)
    if isinstance(node, ast.Name) and node.id in (UNITS, NUMPY):
        example = "u.TeV" if node.id == UNITS else "np.sqrt(...)"
        raise source.error(f"{node.id!r} alone means nothing, write for example {example}", node)
    if isinstance(node, ast.Attribute):
        _check_attribute(source, node)
    if isinstance(node, ast.Call):
        _check_call(source, node)


def _check_attribute(source: CriterionText, node: ast.Attribute) -> None:
    owner = node.value.id if isinstance(node.value, ast.Name) else None
    if owner == UNITS and not node.attr.startswith("_"):
        return  # whether there is such a unit is seen in translation
    if owner == NUMPY and node.attr in NUMPY_CONSTANTS:
        return
    if owner == NUMPY and node.attr in FUNCTIONS:
        raise source.error(f"np.{node.attr} is a function, give it its arguments", node)
    raise source.error(
        "attribute access is not allowed: after a dot only u.<unit> and np.<function>; "
        "columns are named in full, such as hillas_width",
        node,
    )


def _check_call(source: CriterionText, node: ast.Call) -> None:
    name = function_name(node)
    if name not in FUNCTIONS:
        raise source.error(
            f"this call is not allowed; the functions are {', '.join(FUNCTIONS)}", node
        )
    if name in REDUCTIONS:
        over = [(keyword.arg, ast.unparse(keyword.value)) for keyword in node.keywords]
        one_column = len(node.args) == 1 and isinstance(node.args[0], ast.Name)
        if not one_column or over not in ([("axis", "1")], [("axis", "-1")]):
            raise source.error(
                f"{name} takes a column and the axis of the telescopes: np.{name}(column, axis=1)",
                node,
            )
        return
    if node.keywords or len(node.args) != FUNCTION_ARGUMENTS[name]:
        raise source.error(f"{name} takes {FUNCTION_ARGUMENTS[name]} argument(s) by position", node)


def function_name(call: ast.Call) -> str | None:
    """Give the name of the function called as ``name`` or ``np.name``, else None."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="np"), attr=name):
            return name
    return None


def _operands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Attribute):
        return []
    if isinstance(node, ast.Call):
        return node.args
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def columns_in(tree: ast.expr) -> frozenset[str]:
    """Name the columns in a checked syntax tree."""
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            names.add(node.id)
        waiting += _operands(node)
    return frozenset(names)
