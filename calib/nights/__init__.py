"""The blocks of a night, what was done with them, and the index of all nights."""
