"""One file per command: parse, call, print, set the exit code."""
