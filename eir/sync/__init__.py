"""The gate: how a feed is followed. Gets persist and publish as callables."""
