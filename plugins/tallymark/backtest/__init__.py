"""What other thresholds would have detected: docs/backtest.md."""
