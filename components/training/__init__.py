"""Training strategies, optimisers and learning-rate schedules (survey section 5.3)."""
