"""Tables of the history.

Times are UTC without a zone, as SQLite knows none. A number that is not finite is NULL.
Whatever changes here needs a migration in ``migrations/versions``.
"""

from __future__ import annotations

from datetime import date, datetime  # noqa: TC003  SQLAlchemy reads the annotations
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["KEY", "Base", "Coefficient", "Run", "StoredSums"]

#: What makes a run another one, and not a newer version of the same.
KEY = ("night", "calibration", "configuration_digest")


class Base(DeclarativeBase):
    """Common to the tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class Run(Base):
    """The published result of one calibration for one night and configuration."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint(*KEY),)

    id: Mapped[int] = mapped_column(primary_key=True)
    night: Mapped[date]
    """Date of the noon before the observations, in the time zone of the site."""
    calibration: Mapped[str]
    configuration_digest: Mapped[str]
    configuration: Mapped[str] = mapped_column(Text)
    """YAML."""
    status: Mapped[str]
    """usable, degraded or unusable."""
    verdict: Mapped[str] = mapped_column(Text)
    """Status with its reasons, as one sentence."""
    unit: Mapped[str]
    """Of the coefficients; empty for throughputs, which are ratios."""
    blocks: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Path, status, reason, obs_ids and digest of every block file."""
    obs_ids: Mapped[list[int]] = mapped_column(JSON)
    """Observations that went in."""
    n_blocks: Mapped[int]
    """Block files that went in."""
    observed_from: Mapped[datetime | None]
    observed_until: Mapped[datetime | None]
    published: Mapped[datetime]
    versions: Mapped[dict[str, str]] = mapped_column(JSON)
    """Of arraycal and the packages it computes with."""
    fit: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Facts about the fit: estimator, gauge, chi-square, number of showers and so on."""
    covariance: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Covariance of the finite coefficients in the order of their telescope ids: little-endian
    doubles, row by row."""
    result_path: Mapped[str] = mapped_column(Text)
    """Where result.json was written."""


class Coefficient(Base):
    """One telescope of a run."""

    __tablename__ = "coefficients"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tel_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tel_type: Mapped[str]
    value: Mapped[float | None] = mapped_column(Double)
    error: Mapped[float | None] = mapped_column(Double)
    systematic: Mapped[float | None] = mapped_column(Double)
    n_events: Mapped[int] = mapped_column(BigInteger)
    flag: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class StoredSums(Base):
    """The sums of a run, from which windows of nights are solved; not every run has them."""

    __tablename__ = "summaries"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    format: Mapped[int]
    """Layout of the content."""
    content: Mapped[bytes] = mapped_column(LargeBinary)
    """Bytes of `arraycal.calib.fit.sums.kept`."""
