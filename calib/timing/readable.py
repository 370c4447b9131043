"""Times as text."""

__all__ = ["readable_ns"]


def readable_ns(value_ns: float, *, sign: bool = True) -> str:
    """Write a time in the unit that suits it; a width or an error has no sign.

    Examples
    --------
    >>> [readable_ns(value) for value in (-3.456, 12_345.0, 1e9)]
    ['-3.46 ns', '+12.345 us', '+1 s']
    >>> readable_ns(27.05, sign=False)
    '27.05 ns'
    """
    size, plus = abs(value_ns), "+" if sign else ""
    for unit, length in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if size >= length:
            return f"{value_ns / length:{plus}.6g} {unit}"
    return f"{value_ns:{plus}.2f} ns"
