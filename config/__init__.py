"""What to do: the options of a calibration, where they are read, and what they mean.

Imports nothing of the other packages. `config.settings` alone reads the environment and is
imported where it is needed.
"""

from config.dumping import to_yaml
from config.errors import ConfigurationError
from config.loading import (
    available_presets,
    load_configuration,
    load_preset,
    preset_path,
)
from config.models import Configuration
from config.telescope import TelescopeParameter, resolve

__all__ = [
    "Configuration",
    "ConfigurationError",
    "TelescopeParameter",
    "available_presets",
    "load_configuration",
    "load_preset",
    "preset_path",
    "resolve",
    "to_yaml",
]
