"""The subcommands of `hybrid-jax`, one in each file."""
