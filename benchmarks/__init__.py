"""Measurements of Tallymark's speed and footprint; ``make bench`` writes docs/performance.md from them.

Each module in ``page.MEASUREMENTS`` answers the question in the first line of its docstring: ``measure(data, quick)``
returns figures (value and unit by name) and series to plot, ``TARGETS`` are the rows of ``table(result)``, which is
Markdown, and ``ANSWER`` is a sentence with figures in it. ``data`` is a folder, ``quick`` asks for a smaller variant.
"""
