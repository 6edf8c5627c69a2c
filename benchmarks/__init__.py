"""Measurements of Tallymark's speed and footprint. ``make bench`` writes docs/performance.md from them.

Each module in ``page.MEASUREMENTS`` answers the question in the first line of its docstring:

- ``measure(data, quick)`` returns figures (value and unit by name) and series to plot. ``data`` is a folder; ``quick``
  asks for a smaller variant.
- ``table(result)`` returns the figures as a Markdown table.
- ``ANSWER`` is a sentence with placeholders for figures.
- ``PLOT``, if there is one, names the series for the x axis of a plot.
"""
