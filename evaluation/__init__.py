"""Whether a pipeline works: preparation, partition, custody of labels, fitting, scores and intervals."""
