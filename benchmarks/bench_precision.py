"""Scatter against truth: the recommended preset beside the selection of ctao-calibpipe.

One block of about 1e6 telescope events of a mixed array, the same for both. Coefficients are
compared in the geometric-mean gauge, where neither depends on the choice of a reference.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from material import million
from rich.console import Console
from rich.table import Table

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER
from arraycal.config import load_configuration

SETUPS = {
    "recommended": ("energy-inter", []),
    "recommended, robust": ("energy-inter", ["RelativeThroughputFitter.robust=tukey"]),
    "peer's selection, event": (
        "energy-inter-peer",
        ["RelativeThroughputFitter.estimator=event"],
    ),
    "peer's selection, pair": ("energy-inter-peer", []),
}


def main() -> None:
    """Print the table."""
    blocks, truth = million("mixed")
    table = Table(title="ln(c / truth), geometric mean of each type = 1")
    for name in ("setup", "type", "rms", "quoted error", "pull rms", "slope", "telescopes"):
        table.add_column(name, justify="left" if name in ("setup", "type") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name, (preset, overrides) in SETUPS.items():
            configuration = load_configuration(preset=preset, overrides=overrides)
            pairs = [pairs_of_block(b, ENERGY_INTER, configuration, Path(folder)) for b in blocks]
            telescopes = calibrate(pairs, ENERGY_INTER, configuration).telescopes
            for tel_type in ("LST", "MST", "SST"):
                rows = telescopes.filter(
                    (telescopes["tel_type"] == tel_type) & telescopes["value"].is_finite()
                )
                if len(rows) < 2:
                    continue
                true = np.log([truth.throughput[i] for i in rows["tel_id"]])
                found = np.log(rows["value"].to_numpy())
                error = (rows["error"] / rows["value"]).to_numpy()
                true, found = true - true.mean(), found - found.mean()
                sound = error > 0
                table.add_row(
                    name,
                    tel_type,
                    f"{np.std(found - true):.4f}",
                    f"{np.median(error):.4f}",
                    f"{np.sqrt(np.mean(((found - true)[sound] / error[sound]) ** 2)):.2f}",
                    f"{found @ true / (true @ true):.3f}",
                    str(len(rows)),
                )
    Console().print(table)


if __name__ == "__main__":
    main()
