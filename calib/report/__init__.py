"""A result for people: a self-contained HTML page, and Markdown for the Prefect UI."""

from calib.report.document import html, markdown

__all__ = ["html", "markdown"]
