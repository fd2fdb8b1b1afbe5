"""Beliefs about labels, and the label models behind them."""
