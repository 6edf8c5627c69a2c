"""How quick Tallymark is, measured; ``make bench`` writes docs/performance.md from it."""
