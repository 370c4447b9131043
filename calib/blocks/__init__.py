"""The stage of one block: file to rows, and their cache."""
