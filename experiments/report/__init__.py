"""The report made again: its runs, tables, figures and page."""
