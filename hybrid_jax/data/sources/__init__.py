"""Sources of images: TFDS, folders, tables and arrays."""
