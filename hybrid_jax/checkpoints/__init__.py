"""Write training states to disk, and read those that are complete."""
