"""One night: its blocks, its calibrations, its page."""
