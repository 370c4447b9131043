"""The one error of a configuration that cannot be used, and how values are shown in it."""

import reprlib

__all__ = ["ConfigurationError", "shown"]


class ConfigurationError(ValueError):
    """A configuration file, an override or an environment variable makes no sense.

    The message is written for the user: what was found, where, what was expected.
    It is a `ValueError` so that pydantic reports it as any other invalid value.
    """


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """Write a value for a message, cut to a readable length.

    Not `repr`: nested YAML aliases make a tiny file whose full `repr` fills the memory.
    """
    return _SHORT.repr(value)
