"""What to do: the options of a calibration, where they are read, and what they mean.

Imports nothing of the other packages. `arraycal.config.settings` alone reads the environment and is
imported where it is needed.
"""

from arraycal.config.dumping import to_yaml
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import available_presets, load_configuration, load_preset, preset_path
from arraycal.config.models import Configuration
from arraycal.config.telescope import TelescopeParameter, resolve

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
