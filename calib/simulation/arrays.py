"""Telescope arrays of the simulation: kinds of telescope, how they respond, where they stand.

Takes the name of an array, gives its `Layout`. The positions resemble those of the planned
observatories closely enough for a calibration (distances between neighbours, number of
partners of each telescope), and are no survey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["KINDS", "ArrayName", "Kind", "Layout", "make_layout"]

ArrayName = Literal["north", "south", "mixed"]


@dataclass(frozen=True)
class Kind:
    """A kind of telescope: its hardware, and how it responds to a shower."""

    type: str
    """``LST``, ``MST`` or ``SST``."""
    optics: str
    """Name of the optics."""
    camera: str
    """Name of the camera."""
    reflector: str
    """ctapipe's name of the reflector's shape."""
    mirror_area_m2: float
    """Mirror area, which the light yield follows."""
    n_mirror_tiles: int
    """Number of mirror tiles."""
    focal_length_m: float
    """Equivalent focal length."""
    effective_focal_length_m: float
    """Focal length including the aberrations."""
    n_pixels: int
    """Number of pixels, on a hexagonal grid."""
    pixel_pitch_m: float
    """Distance of neighbouring pixels."""
    light_yield: float
    """Photo-electrons in the image of a 1 TeV gamma ray closer than the light pool's edge."""
    threshold: float
    """Photo-electrons the image must exceed to trigger."""
    resolution_floor: float
    """Fluctuation of ln(size) of a very bright image."""
    resolution_noise: float
    """Photo-electrons b of the term sqrt(b / size) in the fluctuation of ln(size)."""
    energy_noise: float
    """Fluctuation of ln(energy) which the size does not share."""
    time_jitter_ns: float
    """Fluctuation of the trigger time."""

    @property
    def description(self) -> str:
        """The kind as ctapipe writes it, ``TYPE_OPTICS_CAMERA``."""
        return f"{self.type}_{self.optics}_{self.camera}"

    @property
    def deg_per_m(self) -> float:
        """Angle on the sky of a distance in the camera."""
        return math.degrees(1 / self.effective_focal_length_m)

    @property
    def camera_radius_deg(self) -> float:
        """Radius of the round field of view, whose area is that of the pixels."""
        area = self.n_pixels * math.sqrt(0.75) * self.pixel_pitch_m**2
        return math.sqrt(area / math.pi) * self.deg_per_m

    @property
    def pixel_pitch_deg(self) -> float:
        """Distance of neighbouring pixels on the sky."""
        return self.pixel_pitch_m * self.deg_per_m


#: Light yields go with the mirror areas, doubled for the silicon sensors of the SST; gamma rays in
#: the light pool reach the thresholds at about 22 GeV, 76 GeV and 0.27 TeV.
KINDS: dict[str, Kind] = {
    kind.type: kind
    for kind in (
        Kind(
            "LST", "LST", "LSTCam", "PARABOLIC", 386.7, 198, 28.0, 29.30565, 1855, 0.05,
            4500.0, 80.0, 0.08, 8.0, 0.05, 0.7,
        ),
        Kind(
            "MST", "MST", "NectarCam", "DAVIES_COTTON", 103.8, 84, 16.0, 16.44505, 1855, 0.05,
            1200.0, 80.0, 0.09, 8.0, 0.05, 1.0,
        ),
        Kind(
            "SST", "1M", "DigiCam", "DAVIES_COTTON", 9.4, 18, 5.6, 5.755767, 1296, 0.0236,
            200.0, 50.0, 0.10, 7.0, 0.06, 1.2,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A telescope array; arrays have one entry per telescope, by ascending id.

    Parameters
    ----------
    name : str
        Name of the subarray.
    site_itrs_m : tuple of float
        Geocentric position of the array's origin.
    altitude_m : float
        Height of the origin above sea level.
    tel_ids : array of int
        Telescope ids, neither contiguous nor starting at 1.
    types : tuple of str
        ``LST``, ``MST`` or ``SST``: keys of `KINDS`.
    positions_m : array, shape (n_telescopes, 3)
        GroundFrame: x to the north, y to the west, z up.
    kinds : mapping of str to Kind
        The kinds of telescope by type.
    """

    name: str
    site_itrs_m: tuple[float, float, float]
    altitude_m: float
    tel_ids: npt.NDArray[np.int64]
    types: tuple[str, ...]
    positions_m: npt.NDArray[np.float64]
    kinds: Mapping[str, Kind] = field(default_factory=lambda: KINDS)

    def response(self, parameter: str) -> npt.NDArray[np.float64]:
        """One number of each telescope's kind, shape (n_telescopes,)."""
        return np.array([getattr(self.kinds[kind], parameter) for kind in self.types])

    def by_type(self, values: Mapping[str, float], default: float) -> npt.NDArray[np.float64]:
        """One number of each telescope's type, shape (n_telescopes,)."""
        return np.array([values.get(kind, default) for kind in self.types])

    @property
    def radius_m(self) -> float:
        """Distance of the farthest telescope from the origin along the ground."""
        return float(np.hypot(*self.positions_m[:, :2].T).max())


_SITES: dict[ArrayName, tuple[str, tuple[float, float, float], float]] = {
    "north": ("Toy-North", (5326742.5, -1719669.6, 3051856.1), 2147.0),
    "south": ("Toy-South", (1953845.1, -5461773.1, -2648075.6), 2147.0),
    "mixed": ("Toy-Mixed", (1953845.1, -5461773.1, -2648075.6), 2147.0),
}

_LST = ((-70.9, -52.1), (-35.3, 66.1), (75.3, 50.5), (30.9, -64.5))
_MST_NORTH = (
    (-150.0, -150.0), (0.0, -165.0), (150.0, -150.0),
    (-165.0, 0.0), (0.0, 0.0), (165.0, 0.0),
    (-150.0, 150.0), (0.0, 165.0), (150.0, 150.0),
)  # fmt: skip
_MST_SOUTH = (
    (0.0, 0.0), (-150.0, 0.0), (150.0, 0.0), (-300.0, 0.0), (300.0, 0.0),
    (-225.0, 130.0), (-75.0, 130.0), (75.0, 130.0), (225.0, 130.0),
    (-225.0, -130.0), (-75.0, -130.0), (75.0, -130.0), (225.0, -130.0),
    (0.0, 260.0),
)  # fmt: skip
_SST_PITCH_M, _SST_ORIGIN, _N_SST = 280.0, (-35.0, -50.0), 37


def hexagonal_grid(n_points: int, pitch: float) -> npt.NDArray[np.float64]:
    """Points of a hexagonal grid closest to the origin, which is the first; shape (n_points, 2)."""
    half = int(np.sqrt(n_points)) + 1
    row, column = np.meshgrid(np.arange(-half, half + 1), np.arange(-half, half + 1))
    x = (column + 0.5 * row).ravel() * pitch
    y = row.ravel() * (pitch * np.sqrt(0.75))
    # Rounding makes the order of points at the same distance independent of the last bit.
    nearest = np.lexsort((x.round(6), y.round(6), np.hypot(x, y).round(6)))[:n_points]
    return np.column_stack([x, y])[nearest]


def make_layout(array: ArrayName, kinds: Mapping[str, Kind] = KINDS) -> Layout:
    """Layout of an array.

    Parameters
    ----------
    array : str
        ``north``: 4 LST (1-4) and 9 MST (5-13). ``south``: 14 MST (5-18) and 37 SST (30-66).
        ``mixed``: 4 LST, 14 MST and 37 SST.
    kinds : mapping of str to Kind
        The kinds of telescope by type.

    Returns
    -------
    Layout
        Square of LSTs with sides of about 115 m, MSTs on a 150 m grid, SSTs on a 280 m grid.
    """
    if array not in _SITES:
        msg = f"there is no array {array!r}; there are {', '.join(_SITES)}."
        raise ValueError(msg)
    blocks: list[tuple[str, int, npt.ArrayLike]] = []
    if array != "south":
        blocks.append(("LST", 1, _LST))
    blocks.append(("MST", 5, _MST_NORTH if array == "north" else _MST_SOUTH))
    if array != "north":
        blocks.append(("SST", 30, hexagonal_grid(_N_SST, _SST_PITCH_M) + _SST_ORIGIN))
    tel_ids = np.concatenate(
        [np.arange(first, first + len(np.array(xy))) for _, first, xy in blocks]
    )
    types = tuple(kind for kind, _, xy in blocks for _ in np.array(xy))
    xy = np.concatenate([np.array(xy) for _, _, xy in blocks])
    # Uneven ground: no telescope stands exactly on its grid point, and heights differ.
    ground = np.column_stack([9 * np.sin(2.4 * tel_ids), 9 * np.cos(3.7 * tel_ids)])
    height = 6 * np.sin(1.7 * tel_ids)
    positions = np.column_stack(
        [xy + np.where(np.array(types)[:, None] == "LST", 0.0, ground), height]
    )
    return Layout(*_SITES[array], tel_ids, types, positions, kinds)
