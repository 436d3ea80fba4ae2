"""The rows of a run folder in formats that other tools read."""
