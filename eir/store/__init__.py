"""The cellar: what survives a restart, and the list files of the world. Decides no policy."""
