"""Where the index speaks of the trends: names of its places, for links to them."""

from __future__ import annotations

import re

__all__ = ["SECTION", "telescope_id", "telescope_link"]

#: The section on the trends.
SECTION = "trends"


def telescope_id(calibration: str, telescope: str) -> str:
    """Name of the row of a telescope.

    Examples
    --------
    >>> telescope_id("energy-inter", "MST 7")
    'trend-energy-inter-MST-7'
    """
    return "trend-" + re.sub(r"[^A-Za-z0-9_-]+", "-", f"{calibration}-{telescope}")


def telescope_link(calibration: str, telescope: str) -> str:
    """Link to that row within the index."""
    return f"#{telescope_id(calibration, telescope)}"
