"""A week or a month solved as one, from the sums of its nights."""
