"""What a run is: parameters, settings of the site, blocks to find, progress and log."""
