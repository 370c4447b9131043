"""Cross-calibration of telescope clocks from the trigger time stamps of common showers.

The stages, in order: `stamps` reads a block and selects, `showers` makes arrays of it, `acquire`
finds clocks that are microseconds off, `sums` and `fit` solve for offsets, front and walk, `steps`
finds jumps, `convention` refuses stamps that contradict theirs, `assemble` tells.

Sign: an offset above zero belongs to a telescope that stamps *late*; the corrected stamp is
``stamp - offset``. Times are in ns, positions in m (GroundFrame: x north, y **west**, z up).
"""
