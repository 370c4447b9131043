"""What is summed over showers, for solvers, models, histograms and windows of nights."""
