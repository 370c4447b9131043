"""What tells configurations apart in the history; needs no database."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arraycal.config.models import Configuration

__all__ = ["configuration_digest"]

#: Options that change where or how something runs, not what comes out.
IRRELEVANT = {
    "input_url",
    "output_url",
    "input_data_url",
    "overwrite",
    "log_level",
    "log_file",
    "log_file_level",
    "quiet",
    # What coefficients are compared with does not change them; of a night it is the night's own.
    "compare",
    "provenance_log",
    "chunk_size",
}
#: The section that judges the history itself.
JUDGEMENT = "TrendMonitor"


def configuration_digest(configuration: Configuration) -> str:
    """Digest of all options that can change a result.

    Options at their defaults do not count: a new version may bring new ones.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    plain = configuration.model_dump(mode="json", exclude_defaults=True)
    sections = {
        name: {key: value for key, value in section.items() if key not in IRRELEVANT}
        for name, section in plain.items()
        if name != JUDGEMENT
    }
    relevant = {name: section for name, section in sections.items() if section}
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
