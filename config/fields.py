"""Types of the configuration's fields: how each is read from YAML and written back.

Reading accepts what the configuration files of ctapipe accept; what is kept is immutable,
can be hashed and pickled, and goes to JSON and back without loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.quantities import ENERGY_UNITS, LENGTH_UNITS, NO_UNITS, parse_quantity
from arraycal.config.telescope import PerType, TelescopeParameter, whole_id

__all__ = [
    "CoreResolution",
    "DistanceM",
    "DistanceScale",
    "EnergyTeV",
    "Fraction",
    "IdPerType",
    "NonNegative",
    "PairOfNumbers",
    "ScalePerType",
    "Threshold",
    "lowercase",
    "uppercase_subsystem",
]

V = TypeVar("V")

#: Beyond, a core says nothing of which telescope is near.
MAX_CORE_RESOLUTION_M = 200.0
#: Types whose name the peer reads in any case.
SUBSYSTEMS = ("LST", "MST", "SST")


def _bounded(
    raw: object,
    *,
    units: Mapping[str, int] = NO_UNITS,
    least: float = 0.0,
    most: float = math.inf,
    open_below: bool = False,
) -> float:
    value = parse_quantity(raw, units)
    if least <= value <= most and not (open_below and value == least):
        return value
    unit = f" {next(iter(units))}" if units else ""
    lower = f"more than {least:g}" if open_below else f"at least {least:g}"
    upper = f" and at most {most:g}" if math.isfinite(most) else ""
    raise ConfigurationError(f"{value:g}{unit} is out of range, expected {lower}{upper}{unit}")


def _two_numbers(raw: object) -> tuple[float, float]:
    if not isinstance(raw, list | tuple) or len(raw) != 2:  # noqa: PLR2004  two are asked for
        raise ConfigurationError(f"expected two numbers [A, B], found {shown(raw)}")
    first, second = raw
    return parse_quantity(first), parse_quantity(second)


def _is_two_numbers(raw: object) -> bool:
    # ctapipe itself cannot tell [A, B] from a list of entries; two numbers are unmistakable
    return not isinstance(raw, list | tuple) or (
        len(raw) == 2 and not any(isinstance(item, list | tuple) for item in raw)  # noqa: PLR2004
    )


def _read_pair(raw: object) -> TelescopeParameter[tuple[float, float]]:
    return TelescopeParameter.parse(raw, _two_numbers, is_bare=_is_two_numbers)


def _read_threshold(raw: object) -> TelescopeParameter[float] | Literal["auto"]:
    if raw == "auto":
        return "auto"
    if isinstance(raw, str) and not any(character.isdigit() for character in raw):
        raise ConfigurationError(f"{shown(raw)} is neither 'auto' nor an energy such as '50 GeV'")
    return TelescopeParameter.parse(raw, partial(_bounded, units=ENERGY_UNITS))


def _write_threshold(value: TelescopeParameter[float] | str) -> str | list[list[Any]]:
    return value if isinstance(value, str) else value.to_plain()


def _read_core_resolution(raw: object) -> float | Literal["file"] | None:
    if raw is None:
        return None
    if raw == "file":
        return "file"
    if isinstance(raw, str) and not any(character.isdigit() for character in raw):
        raise ConfigurationError(f"{shown(raw)} is neither 'file' nor a length such as '15 m'")
    return _bounded(raw, units=LENGTH_UNITS, open_below=True, most=MAX_CORE_RESOLUTION_M)


def _read_scale(raw: object) -> float:
    return _bounded(raw, open_below=True)


def _read_id(raw: object) -> int:
    # the peer's own default writes the ids as text
    return whole_id(raw, "is not a telescope id, expected a whole number")


def _read_per_type(raw: object, *, read_value: Callable[[object], V]) -> PerType[V]:
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f"expected one value per telescope type such as {{LST: 1, MST: 5}}, found {shown(raw)}"
        )
    for tel_type in raw:
        if not isinstance(tel_type, str) or not tel_type:
            raise ConfigurationError(f"{shown(tel_type)} is not the name of a telescope type")
    return PerType({name: _read_of_type(name, value, read_value) for name, value in raw.items()})


def _read_of_type(tel_type: str, raw: object, read_value: Callable[[object], V]) -> V:
    try:
        return read_value(raw)
    except ConfigurationError as error:
        raise ConfigurationError(f"{tel_type}: {error}") from None


def _read_float(raw: object, **bounds: Any) -> TelescopeParameter[float]:  # noqa: ANN401  see _bounded
    return TelescopeParameter.parse(raw, partial(_bounded, **bounds))


def _plain(value: TelescopeParameter[Any]) -> list[list[Any]]:
    return value.to_plain()


def lowercase(raw: object) -> object:
    """Make text lower case: the peer ignores case in its enumerations."""
    return raw.lower() if isinstance(raw, str) else raw


def uppercase_subsystem(raw: object) -> object:
    """Make the name of a subsystem upper case; leave any other name as it is."""
    return raw.upper() if isinstance(raw, str) and raw.upper() in SUBSYSTEMS else raw


_PARAMETER_SCHEMA = WithJsonSchema(
    {
        "title": "telescope parameter",
        "description": 'One value for all, or [[type, "LST*", value], [id, 7, value], ...]',
        "anyOf": [{"type": "number"}, {"type": "string"}, {"type": "array"}],
    }
)
_WRITE_PARAMETER = PlainSerializer(_plain)
_WRITE_PER_TYPE = PlainSerializer(dict, return_type=dict)

#: Telescope parameters. In JSON and YAML they are lists of entries in the unit of the name.
EnergyTeV = Annotated[
    TelescopeParameter[float],
    PlainValidator(partial(_read_float, units=ENERGY_UNITS)),
    _WRITE_PARAMETER,
    _PARAMETER_SCHEMA,
]
DistanceM = Annotated[
    TelescopeParameter[float],
    PlainValidator(partial(_read_float, units=LENGTH_UNITS)),
    _WRITE_PARAMETER,
    _PARAMETER_SCHEMA,
]
NonNegative = Annotated[
    TelescopeParameter[float], PlainValidator(_read_float), _WRITE_PARAMETER, _PARAMETER_SCHEMA
]
DistanceScale = Annotated[
    TelescopeParameter[float],
    PlainValidator(partial(_read_float, open_below=True)),
    _WRITE_PARAMETER,
    _PARAMETER_SCHEMA,
]
Fraction = Annotated[
    TelescopeParameter[float],
    PlainValidator(partial(_read_float, most=1.0)),
    _WRITE_PARAMETER,
    _PARAMETER_SCHEMA,
]
PairOfNumbers = Annotated[
    TelescopeParameter[tuple[float, float]],
    PlainValidator(_read_pair),
    _WRITE_PARAMETER,
    _PARAMETER_SCHEMA,
]
Threshold = Annotated[
    TelescopeParameter[float] | Literal["auto"],
    PlainValidator(_read_threshold),
    PlainSerializer(_write_threshold),
    _PARAMETER_SCHEMA,
]
CoreResolution = Annotated[
    float | Literal["file"] | None,
    PlainValidator(_read_core_resolution),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}),
]

#: Values by telescope type.
ScalePerType = Annotated[
    PerType[float],
    PlainValidator(partial(_read_per_type, read_value=_read_scale)),
    _WRITE_PER_TYPE,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}}),
]
IdPerType = Annotated[
    PerType[int],
    PlainValidator(partial(_read_per_type, read_value=_read_id)),
    _WRITE_PER_TYPE,
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "integer"}}),
]
