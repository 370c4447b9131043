"""Array calibration for imaging atmospheric Cherenkov telescopes.

A night of block files, here a small simulated one:

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from arraycal.calib.simulation import SimulationSettings, simulate_night
>>> scratch = TemporaryDirectory()
>>> night, out = Path(scratch.name, "night"), Path(scratch.name, "out")
>>> truth = simulate_night(night, SimulationSettings(array="north", n_blocks=1, n_showers=1500))

is calibrated in six lines:

>>> import arraycal as ac
>>> config = ac.preset("energy-inter", RelativeThroughputFitter={"min_events": 20})
>>> blocks = ac.read(night / "*.dl2.h5", config, cache=night / "cache")
>>> result = ac.calibrate(blocks)
>>> result.telescopes.columns[:5]
['tel_type', 'tel_id', 'value', 'error', 'systematic']
>>> written = result.write(out)

and so is a table of your own, with a row for each telescope and shower:

>>> import numpy as np
>>> rng, throughput = np.random.default_rng(1), [1.0, 1.1, 0.9, 1.0]
>>> light, noise = rng.pareto(1.7, (2000, 1)) + 1, rng.lognormal(0.0, 0.1, (2000, 4))
>>> table = {
...     "obs_id": np.ones(8000, int),
...     "event_id": np.repeat(np.arange(2000), 4),
...     "tel_id": np.tile([1, 2, 3, 4], 2000),
...     "value": (light * throughput * noise).ravel(),
... }

in seven:

>>> import arraycal as ac
>>> array = ac.Array([1, 2, 3, 4], "MST", [(0, 0), (100, 0), (0, 100), (100, 100)])
>>> config = ac.preset("energy-inter", ShowerSelection={"threshold": None})
>>> rows = ac.pairs(table, array, config)
>>> result = ac.calibrate(rows)
>>> [round(value, 1) for value in result.telescopes["value"]]
[1.0, 1.1, 0.9, 1.0]
>>> figure = result.figure("coefficients")

`result` shows itself in a terminal and in a notebook; ``arraycal.load(out)`` reads one back.

>>> scratch.cleanup()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arraycal.face.arrays import Array
    from arraycal.face.blocks import Blocks, read
    from arraycal.face.calibrating import calibrate
    from arraycal.face.calibrations import Calibration, preset
    from arraycal.face.pairs import Pairs, pairs
    from arraycal.face.results import Result, load

__all__ = [
    "Array",
    "Blocks",
    "Calibration",
    "Pairs",
    "Result",
    "calibrate",
    "load",
    "pairs",
    "preset",
    "read",
]

#: Where each name is, for `__getattr__`; type checkers go by the imports above.
HOMES = {
    "Array": "arrays",
    "Blocks": "blocks",
    "Calibration": "calibrations",
    "Pairs": "pairs",
    "Result": "results",
    "calibrate": "calibrating",
    "load": "results",
    "pairs": "pairs",
    "preset": "calibrations",
    "read": "blocks",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever is asked for
    """Import what is asked for when it is: `import arraycal` itself costs nothing."""
    if name not in HOMES:
        raise AttributeError(f"module 'arraycal' has no attribute {name!r}")
    return getattr(import_module(f"arraycal.face.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
