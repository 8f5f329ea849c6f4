"""Generated from proto/; used by doors and the client only."""
