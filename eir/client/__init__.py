"""For those who ask: clients of a node. Knows the wire and the identities, nothing behind them."""
