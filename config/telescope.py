"""Values that depend on the telescope, and values that depend on the telescope type.

The notation is that of ctapipe: a bare value for every telescope, or a list of
``[command, argument, value]`` entries in which **the last matching entry wins**, whether it
matches by type or by id::

    0.05                                              # every telescope
    [[type, "*", 0.05], [type, "LST*", 0.1], [id, 7, 0.2]]

A type pattern is compared, with case, to the telescope's description
``TYPE_OPTICS_CAMERA`` such as ``LST_LST_LSTCam``: ``LST*`` matches it, ``LST`` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

from arraycal.config.errors import ConfigurationError, shown

__all__ = [
    "PerType",
    "TelescopeEntry",
    "TelescopeParameter",
    "resolve",
    "whole_id",
]

V = TypeVar("V")

#: Telescope ids are 16-bit numbers in every file, and are written with so many digits at most.
MAX_TEL_ID, MAX_DIGITS = 65535, 20


class TelescopeEntry(NamedTuple, Generic[V]):
    """One ``[command, argument, value]`` entry of a telescope parameter."""

    command: Literal["type", "id"]
    argument: str | int
    value: V

    def matches(self, tel_id: int, description: str) -> bool:
        """Tell whether the entry applies to a telescope."""
        if self.command == "id":
            return self.argument == tel_id
        return fnmatchcase(description, str(self.argument))


@dataclass(frozen=True)
class TelescopeParameter(Generic[V]):
    """A value for every telescope; the last matching entry wins.

    Attributes
    ----------
    entries : tuple of TelescopeEntry
        In the order of the configuration.

    Examples
    --------
    >>> cut = TelescopeParameter.parse([["type", "*", 1.0], ["id", 7, 2.0]], float)
    >>> cut.value_for(1, "LST_LST_LSTCam"), cut.value_for(7, "MST_MST_FlashCam")
    (1.0, 2.0)
    """

    entries: tuple[TelescopeEntry[V], ...]

    @classmethod
    def parse(
        cls,
        raw: object,
        read_value: Callable[[object], V],
        *,
        is_bare: Callable[[object], bool] | None = None,
    ) -> TelescopeParameter[V]:
        """Read the notation of the configuration files.

        Parameters
        ----------
        raw : object
            A bare value or a list of ``[command, argument, value]``.
        read_value : callable
            Turns one value into its type; raises `ConfigurationError` if it cannot.
        is_bare : callable, optional
            Tells a bare value from a list of entries. By default whatever is no list.

        Raises
        ------
        ConfigurationError
            If an entry does not have this shape.
        """
        if isinstance(raw, cls):
            return raw
        bare = is_bare(raw) if is_bare else not isinstance(raw, list | tuple)
        if bare:
            return cls((TelescopeEntry("type", "*", read_value(raw)),))
        rows = cast("list[object]", raw)
        if not rows:
            raise ConfigurationError("the list of telescope entries is empty; give a value or null")
        return cls(tuple(_parse_entry(row, read_value) for row in rows))

    def value_for(self, tel_id: int, description: str) -> V | None:
        """Give the value for one telescope.

        Parameters
        ----------
        tel_id : int
            Id of the telescope in the array.
        description : str
            ``TYPE_OPTICS_CAMERA``.

        Returns
        -------
        value or None
            ``None`` if no entry matches.
        """
        for entry in reversed(self.entries):
            if entry.matches(tel_id, description):
                return entry.value
        return None

    def to_plain(self) -> list[list[Any]]:
        """Give the entries as lists, the way YAML and JSON write them."""
        return [
            [e.command, e.argument, list(e.value) if isinstance(e.value, tuple) else e.value]
            for e in self.entries
        ]

    def __str__(self) -> str:
        """Give the patterns as a person would write them."""
        return ", ".join(f"[{e.command}, {e.argument}, {e.value}]" for e in self.entries)


def _parse_entry(row: object, read_value: Callable[[object], V]) -> TelescopeEntry[V]:
    expected = 'expected [type, "LST*", value] or [id, 7, value]'
    if not isinstance(row, list | tuple):
        raise ConfigurationError(
            f"the entry {shown(row)} is not a list; {expected}, "
            "and one more pair of brackets around all entries"
        )
    if len(row) != 3:  # noqa: PLR2004  the three are named in the message
        raise ConfigurationError(f"an entry has {len(row)} elements; {expected}")
    command, argument, value = row
    if command == "type" and isinstance(argument, str):
        return TelescopeEntry("type", argument, read_value(value))
    if command == "id":
        return TelescopeEntry("id", _parse_id(argument), read_value(value))
    if command == "type":
        raise ConfigurationError(f"the type pattern {shown(argument)} is not text; {expected}")
    raise ConfigurationError(f"the entry begins with {shown(command)}; {expected}")


def _parse_id(argument: object) -> int:
    return whole_id(argument, "is not a whole number", "the telescope id ")


def whole_id(raw: object, complaint: str, about: str = "") -> int:
    """Read the id of a telescope.

    Raises
    ------
    ConfigurationError
        If it is none: ``about``, the value and ``complaint``, and up to where ids go.
    """
    found = raw
    if isinstance(raw, str) and raw.strip().isdecimal() and len(raw.strip()) <= MAX_DIGITS:
        found = int(raw)
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MAX_TEL_ID:
        return found
    raise ConfigurationError(f"{about}{shown(raw)} {complaint} from 0 to {MAX_TEL_ID}")


def resolve(
    parameter: TelescopeParameter[V],
    tel_ids: Iterable[int],
    descriptions: Mapping[int, str],
) -> dict[int, V]:
    """Give every telescope its value.

    Parameters
    ----------
    parameter : TelescopeParameter
        The patterns.
    tel_ids : iterable of int
        Telescopes that need a value.
    descriptions : mapping of int to str
        ``TYPE_OPTICS_CAMERA`` of each of them.

    Returns
    -------
    dict of int to value
        In the order of ``tel_ids``.

    Raises
    ------
    ConfigurationError
        If no entry matches a telescope.
    """
    values = {tel: parameter.value_for(tel, descriptions[tel]) for tel in tel_ids}
    missing = [f"{tel} ({descriptions[tel]})" for tel, value in values.items() if value is None]
    if missing:
        raise ConfigurationError(
            f"no value is configured for telescope {', '.join(missing)}; the entries are "
            f'{parameter}. Add one that matches, for example [type, "*", value] in first place'
        )
    return cast("dict[int, V]", values)


class PerType(Mapping[str, V]):
    """Values by telescope type: a dictionary that cannot change and can be hashed.

    Examples
    --------
    >>> PerType({"LST": 1, "MST": 5})["MST"]
    5
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        self._items = dict(items)

    def __getitem__(self, tel_type: str) -> V:
        """Give the value of a type; `KeyError` if it has none."""
        return self._items[tel_type]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the types in the order they were given."""
        return iter(self._items)

    def __len__(self) -> int:
        """Count the types."""
        return len(self._items)

    def __hash__(self) -> int:
        """Hash the content, whatever its order, as equality does."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Show the content."""
        return f"PerType({self._items!r})"
