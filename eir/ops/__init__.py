"""The office: configuration, meters, the keeper that puts the house together, the command line."""
