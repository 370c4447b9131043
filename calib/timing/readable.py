"""Times as text."""

__all__ = ["readable_ns"]


def readable_ns(value_ns: float) -> str:
    """Write a signed time in the unit that suits it.

    Examples
    --------
    >>> [readable_ns(value) for value in (-3.456, 12_345.0, 1e9)]
    ['-3.46 ns', '+12.345 us', '+1 s']
    """
    size = abs(value_ns)
    for unit, length in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if size >= length:
            return f"{value_ns / length:+.6g} {unit}"
    return f"{value_ns:+.2f} ns"
