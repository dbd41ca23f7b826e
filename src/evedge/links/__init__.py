"""One file per foreign thing; each is an async context manager that is ready when entered."""
