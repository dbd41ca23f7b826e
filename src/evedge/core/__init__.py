"""What is true without any I/O: no asyncio, no sockets, no files, no clock, no logging."""
