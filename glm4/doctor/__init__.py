"""`glm4 doctor`: what a folder is, whether it will load here, what memory that takes, and what an error message means.

Reads names, sizes and headers, never weights, and never fails itself: whatever is wrong becomes a line of the report.
Imports torch only when it looks at a machine or a folder.
"""

from .examination import examine, examine_text
from .report import Report

__all__ = ["Report", "examine", "examine_text"]
