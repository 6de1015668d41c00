"""What can be built: components' declarations, the conditional tree made of them, genotypes, presets and errors.

Nothing here imports torch, ray or optuna.
"""
