"""Clips, annotations, and the datasets that give them (survey section 2)."""
