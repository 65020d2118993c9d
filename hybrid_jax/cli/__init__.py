"""The subcommands of `hybrid-jax`, a file each."""
