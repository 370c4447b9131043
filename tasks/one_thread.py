"""What a new process of a pool does first. Must not import polars."""

import os


def one_polars_thread() -> None:
    """Make polars use one thread in a new process of a pool, before polars is imported there."""
    os.environ["POLARS_MAX_THREADS"] = "1"
