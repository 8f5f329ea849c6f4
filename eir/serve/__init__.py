"""The counter: what serves, and the deciding. Knows not where generations come from."""
