"""Figures of a result, by matplotlib."""

from calib.figures.gallery import CAPTIONS, FIGURES, encode, figures

__all__ = ["CAPTIONS", "FIGURES", "encode", "figures"]
