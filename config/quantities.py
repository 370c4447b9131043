"""Numbers that may carry a unit: ``50 GeV``, ``50 * u.GeV``, or bare in the unit of the option."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING

from arraycal.config.errors import ConfigurationError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENERGY_UNITS", "LENGTH_UNITS", "NO_UNITS", "parse_quantity"]

#: Multiples of the unit in which the models keep a quantity, as exact powers of ten:
#: dividing by 1000.0 rounds correctly where multiplying by 0.001 may not.
ENERGY_UNITS: Mapping[str, int] = MappingProxyType(
    {"TeV": 0, "eV": -12, "keV": -9, "MeV": -6, "GeV": -3, "PeV": 3}
)
LENGTH_UNITS: Mapping[str, int] = MappingProxyType({"m": 0, "cm": -2, "mm": -3, "km": 3})
NO_UNITS: Mapping[str, int] = MappingProxyType({})

# "50 GeV", "50*u.GeV", "5e-2" (YAML 1.1 takes the last for text: it wants a decimal point)
_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
    r"\s*\*?\s*(?:u\.)?(?P<unit>[A-Za-z]*)\s*"
)


def parse_quantity(raw: object, units: Mapping[str, int] = NO_UNITS) -> float:
    """Read a finite number that may carry a unit.

    Parameters
    ----------
    raw : object
        A number, taken in the first unit of ``units``, or text such as ``"50 GeV"`` and
        ``"50 * u.GeV"``.
    units : mapping of str to int
        Allowed units and their power of ten; the first one is that of the result.

    Returns
    -------
    float
        The number in the first unit of ``units``.

    Raises
    ------
    ConfigurationError
        If ``raw`` is not such a number, is not finite or has another unit.

    Examples
    --------
    >>> parse_quantity("50 * u.GeV", ENERGY_UNITS)
    0.05
    >>> parse_quantity(125, LENGTH_UNITS)
    125.0
    """
    number, unit = _number_and_unit(raw, units)
    if unit and unit not in units:
        raise ConfigurationError(_unit_message(raw, unit, units))
    power = units[unit] if unit else 0
    value = number * 10.0**power if power >= 0 else number / 10.0**-power
    if not math.isfinite(value):
        raise ConfigurationError(f"{shown(raw)} is not a finite number")
    return value


def _number_and_unit(raw: object, units: Mapping[str, int]) -> tuple[float, str]:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            return float(raw), ""
        except OverflowError:
            return math.inf, ""
    # Of many blanks one is left: the pattern would try them in every way.
    match = _QUANTITY.fullmatch(" ".join(raw.split())) if isinstance(raw, str) else None
    if match is None:
        example = f", for example 50 or '50 {next(iter(units))}'" if units else ""
        raise ConfigurationError(f"{shown(raw)} is not a number{example}")
    return float(match["number"]), match["unit"]


def _unit_message(raw: object, unit: str, units: Mapping[str, int]) -> str:
    if not units:
        return f"{shown(raw)} has the unit {unit!r}, expected a plain number"
    near = get_close_matches(unit, units, n=1) or get_close_matches(
        unit.lower(), [known.lower() for known in units], n=1
    )
    exact = next((known for known in units if near and known.lower() == near[0].lower()), None)
    hint = f"; did you mean {exact!r}?" if exact else ""
    return f"{shown(raw)} has the unit {unit!r}, expected one of {', '.join(units)}{hint}"
