"""Input modalities: what is computed of one clip before any training (survey section 4.2)."""
