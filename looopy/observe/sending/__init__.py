"""The way out: spans wait in a queue, are written as OTLP and sent over HTTP, and what goes wrong is told with the mend."""
