"""One view of the results, rendered to HTML and PDF."""
