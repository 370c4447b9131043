"""What supports a result: constancy, margin scan, residuals, histograms, comparison."""
