"""Classical classifiers on flattened maps: the baselines (survey section 6)."""
