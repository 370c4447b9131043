"""Whole files: digests, atomic replacement, advisory locks, names in errors."""
