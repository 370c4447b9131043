"""Showers to sums to network to log throughputs."""
