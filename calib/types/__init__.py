"""Telescope types compared with each other."""
