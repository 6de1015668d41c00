"""Pre-processing: normalisation and augmentation (survey section 4.1)."""
