"""The worker: plans, predicts, assembles and closes segment jobs; loads models. No torch."""
