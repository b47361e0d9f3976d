"""Figures of a backtest and the page that shows them."""
