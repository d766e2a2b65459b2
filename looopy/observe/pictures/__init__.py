"""A run as a picture for a terminal: its events as a tree of spans, with bars of time and figures of what it took."""
