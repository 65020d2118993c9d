"""Training as traced code: losses, optimizers, schedules, metrics, state and step."""
