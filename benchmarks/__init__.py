"""Looopy side by side with hand-written loops; `python -m benchmarks`, see README.md."""
