"""Losses (survey section 5.4)."""
