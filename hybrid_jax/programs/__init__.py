"""Build and compile the programs of a run for its devices, and call them."""
