"""What a run looks like from outside: each signal is a fold of the run's events."""
