"""The common language of registry and engine: files and what they mean. Knows no one who serves."""
