"""What reading the blocks brought to light, in the verdict and the notes of a result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arraycal.calib.checks.curve_table import with_notes
from arraycal.calib.result.verdict import with_remarks, with_untested
from arraycal.calib.wording import MAX_NAMED, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["with_block_findings"]

#: Topic of the notes that are remarks of the verdict, too.
DEGRADES = "degrades the result"


def with_block_findings(
    result: CalibrationResult, blocks: Sequence[BlockPairs]
) -> CalibrationResult:
    """Add to a result what its blocks have to say.

    Parameters
    ----------
    result : CalibrationResult
        Of these blocks.
    blocks : sequence of BlockPairs
        Those that were used.

    Returns
    -------
    CalibrationResult
        Degraded by what speaks against a block; with notes, and what no block allowed to test.
    """
    remarks = [(block.path, text) for block in blocks for text in block.remarks]
    notes = [(str(block.path), *note) for block in blocks for note in block.notes]
    notes += [(str(path), DEGRADES, text) for path, text in remarks]
    more = len(remarks) - MAX_NAMED
    said = [f"{path.name}: {text}" for path, text in remarks[:MAX_NAMED]]
    said += [f"{more} more remarks on blocks (see the notes on them)"] if more > 0 else []
    untested: dict[str, list[str]] = {}
    for block in blocks:
        for text in block.untested:
            untested.setdefault(text, []).append(block.path.name)
    texts = [f"{text} ({listed(names)})" for text, names in untested.items()]
    verdict = with_untested(with_remarks(result.verdict, said), texts)
    return with_notes(replace(result, verdict=verdict), notes)
