"""Sentences for the user in place of pydantic's errors.

Each says where the value stands (file or override), under which name, what was found and
what was expected; an unknown key comes with the nearest known one and the list of them.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel

from arraycal.config.errors import shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["Origins", "did_you_mean", "explain", "known_keys"]

#: Path of a setting → (file or override, the name it was given there).
Origins: TypeAlias = dict[tuple[int | str, ...], tuple[str, str]]

#: More sentences than this help nobody.
MAX_SENTENCES = 10


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Suggest the nearest known name and list them all.

    Examples
    --------
    >>> did_you_mean("margn", ["margin", "threshold"])
    "; did you mean 'margin'? Known: margin, threshold"
    """
    folded = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
    return f"{hint} Known: {', '.join(known)}"


def explain(error: ValidationError, model: type[BaseModel], origins: Origins) -> str:
    """Turn a validation error into one sentence per mistake.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    model : type of BaseModel
        The model that was validated.
    origins : Origins
        Where each setting came from.

    Returns
    -------
    str
        The sentences, one a line.
    """
    details = error.errors(include_url=False)
    lines = [_sentence(detail, model, origins) for detail in details[:MAX_SENTENCES]]
    if len(details) > MAX_SENTENCES:
        lines.append(f"and {len(details) - MAX_SENTENCES} more")
    return "\n".join(lines)


def _sentence(detail: ErrorDetails, model: type[BaseModel], origins: Origins) -> str:
    location = detail["loc"]
    source, name = _origin(location, origins)
    where = f"{source}: " if source else ""
    if detail["type"] == "extra_forbidden":
        known = known_keys(location, model)
        kind = "section" if len(location) == 1 else "key"
        return f"{where}unknown {kind} {name!r}{did_you_mean(str(location[-1]), known)}"
    if detail["type"] == "missing":
        return f"{where}{name} is missing"
    message = detail["msg"]
    if detail["type"] == "value_error":
        about = f"{name}: " if name else ""
        return f"{where}{about}{message.removeprefix('Value error, ')}"
    expected = message.removeprefix("Input should be ")
    if expected.startswith(("greater", "less")):
        expected = f"a number {expected}"
    return f"{where}{name} is {shown(detail['input'])}, expected {expected}"


def _origin(location: tuple[int | str, ...], origins: Origins) -> tuple[str, str]:
    """Find the file and the written name of the longest known part of a location."""
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            source, written = origins[location[:length]]
            return source, ".".join([written, *map(str, location[length:])])
    # an error of a section as a whole: any of its settings tells the file
    sources = {source for path, (source, _) in origins.items() if path[:1] == location[:1]}
    return ", ".join(sorted(sources)), ".".join(map(str, location))


def known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Names that are known where an unknown one was found."""
    return list(_model_at(location[:-1], model).model_fields)


def _model_at(location: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    """Walk down the models along a location; indices of tuples lead into their items."""
    current: Any = model
    for step in location:
        if isinstance(step, str) and isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[step].annotation
        else:
            current = next((a for a in get_args(current) if a is not Ellipsis), current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else model
