"""YAML of strangers as plain data, in a time that grows with the length of the text alone."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any

import yaml

__all__ = ["parse_yaml"]

#: Characters of a text: a hundred times a preset. Values when every alias stands for a copy, as
#: merged keys (``<<``) are. Characters of a number: more is none that means anything. Brackets
#: inside each other.
MAX_TEXT, MAX_VALUES, MAX_NUMBER, MAX_DEPTH = 200_000, 100_000, 100, 100
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


def parse_yaml(text: str) -> Any:  # noqa: ANN401  any YAML
    """Read a text.

    Parameters
    ----------
    text : str
        YAML without own tags.

    Returns
    -------
    object
        New every time: what the caller does to it stays with the caller.

    Raises
    ------
    yaml.YAMLError
        If it is no such text, gives a key twice, is too long, or stands for too much.
    """
    try:
        root = _composed(text)
        return None if root is None else yaml.SafeLoader("").construct_document(root)
    except RecursionError:  # thousands of brackets
        raise yaml.YAMLError("nested too deep") from None
    except ValueError as error:  # a date that does not exist
        raise yaml.YAMLError(str(error)) from None


@lru_cache(maxsize=16)
def _composed(text: str) -> yaml.Node | None:
    """Nodes of a text, kept: a night reads its few presets again and again."""
    if len(text) > MAX_TEXT:
        raise yaml.YAMLError(f"{len(text):,} characters, expected at most {MAX_TEXT:,}")
    if _depth(text) > MAX_DEPTH:  # the reader looks ahead from each bracket
        raise yaml.YAMLError("nested too deep")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    _refuse_long_numbers(root)
    _refuse_repeated_keys(root)
    if _values(root) > MAX_VALUES:
        raise yaml.YAMLError(
            f"its aliases stand for more than {MAX_VALUES:,} values; write fewer, or none"
        )
    return root


def _depth(text: str) -> int:
    """Brackets that are open at once, at most; those in texts and comments count as well."""
    steps = (1 if mark in "[{" else -1 for mark in text if mark in "[]{}")
    return max(accumulate(steps), default=0)


def _children(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return []


def _ordered(root: yaml.Node | None) -> list[yaml.Node]:
    """Every node once, none before the nodes in it, but for those that contain themselves."""
    waiting, visited, done = [(root, False)], set(), []
    while waiting:
        node, is_left = waiting.pop()
        if node is None:
            continue
        if is_left:
            done.append(node)
        elif id(node) not in visited:
            visited.add(id(node))
            waiting.append((node, True))
            waiting += [(child, False) for child in _children(node)]
    return done


def _values(root: yaml.Node | None) -> int:
    """Nodes when every alias is a copy; each is counted once and then known."""
    sizes: dict[int, int] = {}
    for node in _ordered(root):
        sizes[id(node)] = 1 + sum(sizes.get(id(child), 0) for child in _children(node))
    return sizes.get(id(root), 0)


def _refuse_long_numbers(root: yaml.Node | None) -> None:
    for node in _ordered(root):
        if node.tag in NUMBERS and len(node.value) > MAX_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"a number of {len(node.value):,} characters, expected at most "
                f"{MAX_NUMBER}",
                problem_mark=node.start_mark,
            )


def _refuse_repeated_keys(root: yaml.Node | None) -> None:
    """Raise for a key given twice in one mapping: PyYAML would keep the last in silence."""
    for node in _ordered(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # safe_load refuses it as a key
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, key.value))
