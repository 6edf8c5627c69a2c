"""Backtests: what other thresholds would have detected. See docs/backtest.md."""
