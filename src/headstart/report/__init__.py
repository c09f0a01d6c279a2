"""One view of the results, rendered to HTML and PDF.

results.json ──► advice (rules, before the file is written)
│
▼
load ──► view (records: every number with its text) ──► html ──► report.html
tables, plotting, numbering                └─► shortening ──► pdf ──► report.pdf
│                                          figures, charts, maps
"""

from headstart.report.advice import advise
from headstart.report.files import render
from headstart.report.records import ReportView
from headstart.report.view import build_view

__all__ = ["ReportView", "advise", "build_view", "render"]
