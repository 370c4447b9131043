"""Coefficients applied to block files."""
