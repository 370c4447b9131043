"""Runs, their coefficients, and their sums, from which windows of nights are solved."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("calibration", sa.String(), nullable=False),
        sa.Column("configuration_digest", sa.String(), nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("blocks", sa.JSON(), nullable=False),
        sa.Column("obs_ids", sa.JSON(), nullable=False),
        sa.Column("n_blocks", sa.Integer(), nullable=False),
        sa.Column("observed_from", sa.DateTime(), nullable=True),
        sa.Column("observed_until", sa.DateTime(), nullable=True),
        sa.Column("published", sa.DateTime(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("fit", sa.JSON(), nullable=False),
        sa.Column("covariance", sa.LargeBinary(), nullable=True),
        sa.Column("result_path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("night", "calibration", "configuration_digest", name="uq_runs_night"),
    )
    op.create_table(
        "coefficients",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("tel_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tel_type", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("systematic", sa.Double(), nullable=True),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.Column("flag", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_coefficients_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "tel_id", name="pk_coefficients"),
    )
    op.create_table(
        "summaries",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("format", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_summaries_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_summaries"),
    )
