"""The one error of a configuration that cannot be used, and how values are shown in it."""

import reprlib

__all__ = ["ConfigurationError", "shown"]


class ConfigurationError(ValueError):
    """A configuration file, an override or an environment variable makes no sense.

    The message is written for the user: what was found, where, what was expected.
    It is a `ValueError` so that pydantic reports it as any other invalid value.
    """


class _Short(reprlib.Repr):
    """Shortened text of any value, also of numbers that Python refuses to write out."""

    def repr_int(self, x: int, level: int) -> str:
        """Write a number; one of thousands of digits by its size."""
        if x.bit_length() > MAX_BITS:
            return f"a whole number of {x.bit_length():,} bits"
        return super().repr_int(x, level)


#: Longer whole numbers are not written out; Python itself stops at some thousand digits.
MAX_BITS = 1000
_SHORT = _Short()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """Write a value for a message, cut to a readable length.

    Not `repr`: nested YAML aliases make a tiny file whose full `repr` fills the memory.
    """
    return _SHORT.repr(value)
