"""The tasks. Each declares the small Protocol it needs; a link satisfies it by shape."""
