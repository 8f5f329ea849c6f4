"""A nation made up: its devices, its registry, and the first minute with the engine."""
