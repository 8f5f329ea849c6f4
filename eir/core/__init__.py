"""The vault: pure values. No clock, file, socket, log or thread; time is an argument."""
