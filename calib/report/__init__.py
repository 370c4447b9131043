"""A result for people: a self-contained HTML page, and Markdown for the Prefect UI."""

from arraycal.calib.report.document import html
from arraycal.calib.report.summary_page import markdown

__all__ = ["html", "markdown"]
