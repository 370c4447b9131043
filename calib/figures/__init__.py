"""Figures of a result, by matplotlib."""

from arraycal.calib.figures.gallery import (
    CLOCK_FIGURES,
    FIGURES,
    Picture,
    caption,
    draw_figures,
    encode,
)

__all__ = ["CLOCK_FIGURES", "FIGURES", "Picture", "caption", "draw_figures", "encode"]
