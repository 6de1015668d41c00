"""Network blocks, map to map (survey section 5.1)."""
