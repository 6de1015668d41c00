"""Which pipeline is best: plan, ledger, samplers, executors, the nested search and its front."""
