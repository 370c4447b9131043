"""A configuration as YAML text that loads again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from arraycal.config.models import Configuration

__all__ = ["to_yaml"]


class _Dumper(yaml.SafeDumper):
    """A safe dumper that writes a list of scalars, such as a telescope entry, in one line."""


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    in_line = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=in_line)


_Dumper.add_representer(list, _represent_list)


def to_yaml(configuration: Configuration) -> str:
    """Write a complete configuration, which `load_configuration` reads back as equal."""
    # Wherever null is allowed it is the default, so leaving it out changes nothing.
    plain = configuration.model_dump(mode="json", exclude_none=True)
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=100)
