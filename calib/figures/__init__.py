"""Figures of a result, by matplotlib."""

from calib.figures.gallery import CAPTIONS, CLOCK_FIGURES, FIGURES, Picture, encode, figures

__all__ = ["CAPTIONS", "CLOCK_FIGURES", "FIGURES", "Picture", "encode", "figures"]
