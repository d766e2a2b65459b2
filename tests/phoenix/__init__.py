"""What a real Arize Phoenix makes of the spans of a run."""
