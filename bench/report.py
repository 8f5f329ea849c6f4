"""docs/benchmarks.md and its plots."""
def write(lines, folder):
    pass
