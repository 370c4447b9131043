"""The result of a calibration as tables, and its verdict."""
