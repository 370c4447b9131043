"""Several nights of one array, whose telescopes change from one to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.simulation.night import (
    draw_clock_offsets,
    draw_throughput,
    refuse_night,
    simulate_night,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arraycal.calib.simulation.settings import SimulationSettings
    from arraycal.calib.simulation.truth import Truth

__all__ = ["NightSettings", "settings_of_nights", "simulate_nights"]

#: Stamps count quarters of ns since 1970 in signed numbers of 64 bits; a night ends a day later.
FIRST_NIGHT, LAST_NIGHT = date(1970, 1, 2), date(2043, 1, 23)


@dataclass(frozen=True, kw_only=True)
class NightSettings:
    """How many nights there are, and what the throughput does in them."""

    n_nights: int = 1
    """Number of nights, one after the other."""
    steps: tuple[tuple[int, float, date], ...] = ()
    """Telescope, relative change of its throughput, and the first night that has it."""
    ageing: Mapping[int, float] = field(default_factory=dict)
    """Share of its throughput that a telescope loses from night to night, by id."""

    def __post_init__(self) -> None:
        """Refuse changes that no telescope can have."""
        changes = [(tel_id, change) for tel_id, change, _ in self.steps]
        changes += [(tel_id, -loss) for tel_id, loss in self.ageing.items()]
        if self.n_nights < 1:
            msg = f"n_nights is {self.n_nights}; it must be at least 1."
            raise ValueError(msg)
        for tel_id, change in changes:
            if not -1 < change < math.inf:
                msg = (
                    f"the throughput of telescope {tel_id} is to change by {change:+g} of its "
                    "value; it must remain positive."
                )
                raise ValueError(msg)

    def factor(self, tel_id: int, night: date, first: date) -> float:
        """Throughput of a telescope in a night over what it was before any change."""
        factor = (1 - self.ageing.get(tel_id, 0.0)) ** (night - first).days
        for stepping, change, since in self.steps:
            if stepping == tel_id and night >= since:
                factor *= 1 + change
        return factor


def settings_of_nights(
    settings: SimulationSettings, nights: NightSettings
) -> list[SimulationSettings]:
    """Settings of each night.

    Parameters
    ----------
    settings : SimulationSettings
        The first night, as it would be without any change.
    nights : NightSettings
        How many there are, and what changes.

    Returns
    -------
    list of SimulationSettings
        One per night, complete in themselves: throughput and clock offsets are given, not drawn.
        Observation blocks are numbered through. Clocks drift and leap alike in every night.

    Raises
    ------
    ValueError
        If a telescope that changes is not in the array, or there are no time stamps for a night.
    """
    first = settings.night
    throughput, clock_offset_ns = draw_throughput(settings), draw_clock_offsets(settings)
    _refuse_unknown(nights, throughput)
    _refuse_dates(first, nights.n_nights)
    found = []
    for index in range(nights.n_nights):
        night = first + timedelta(days=index)
        changed = {i: c * nights.factor(i, night, first) for i, c in throughput.items()}
        found.append(
            replace(
                settings,
                night=night,
                first_obs_id=settings.first_obs_id + index * settings.n_blocks,
                seed=_seed(settings.seed, index),
                throughput=changed,
                clocks=replace(settings.clocks, offset_ns=clock_offset_ns),
            )
        )
    return found


def _refuse_dates(first: date, n_nights: int) -> None:
    if first < FIRST_NIGHT or n_nights > (LAST_NIGHT - first).days + 1:
        msg = (
            f"n_nights is {n_nights}, from {first} on; time stamps are for nights from "
            f"{FIRST_NIGHT} to {LAST_NIGHT}."
        )
        raise ValueError(msg)


def _refuse_unknown(nights: NightSettings, throughput: Mapping[int, float]) -> None:
    changing = {tel_id for tel_id, _, _ in nights.steps} | set(nights.ageing)
    unknown = sorted(changing - set(throughput))
    if unknown:
        msg = (
            f"the throughput of telescopes {unknown} is to change, but the array has "
            f"{sorted(throughput)}."
        )
        raise ValueError(msg)


def _seed(seed: int, index: int) -> int:
    """Seed of a night: that of the first one is the given one."""
    if index == 0:
        return seed
    # Not seed + index: the second night of one seed would be the first night of the next.
    sequence = np.random.SeedSequence(seed, spawn_key=(0, 2, index))
    return int(sequence.generate_state(1, np.uint32)[0])


def simulate_nights(
    directory: Path,
    settings: SimulationSettings,
    nights: NightSettings,
    *,
    overwrite: bool = False,
) -> list[Truth]:
    """Simulate nights and write each into a folder that bears its date.

    Parameters
    ----------
    directory : Path
        Folder of the folders; created if absent.
    settings, nights
        As for `settings_of_nights`.
    overwrite : bool
        Replace nights that the folders already hold.

    Returns
    -------
    list of Truth
        What each night was made from; see `simulate_night`.

    Raises
    ------
    FileExistsError
        If one of the folders holds a night already and `overwrite` is not given; then nothing is
        written.
    ValueError
        If a telescope that changes is not in the array.
    """
    found = settings_of_nights(settings, nights)
    folders = [directory / one.night.isoformat() for one in found]
    if not overwrite:
        for folder in folders:
            refuse_night(folder)
    return [
        simulate_night(folder, one, overwrite=overwrite)
        for folder, one in zip(folders, found, strict=True)
    ]
