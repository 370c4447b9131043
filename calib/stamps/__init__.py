"""Block file to time stamps with the geometry of their shower."""
