"""Array calibration for imaging atmospheric Cherenkov telescopes."""
