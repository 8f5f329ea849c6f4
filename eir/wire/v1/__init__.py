"""Made by proto/generate.py."""
