"""The monitoring file: coefficients written, read back, and where they come from."""
