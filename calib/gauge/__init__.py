"""What is 1 (or 0): gauges, reference telescopes, outliers."""
