"""Files → findings: predictions and heat maps."""
