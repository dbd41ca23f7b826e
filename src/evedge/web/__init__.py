"""What the gateway shows over HTTP. No endpoint changes state."""
