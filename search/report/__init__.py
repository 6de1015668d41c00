"""The report of a finished run: one HTML file that needs nothing else, and tables and pictures for papers."""

from mernas.search.report.files import report_command, report_files
from mernas.search.report.page import make_report

__all__ = ["make_report", "report_command", "report_files"]
