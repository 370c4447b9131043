"""The command line: arguments of each command, and what it does."""
