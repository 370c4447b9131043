"""Courses of telescopes over nights: drifts, steps, and the gauge between nights."""
