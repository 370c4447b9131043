"""Order and fan-out of the stages, and the command line."""
