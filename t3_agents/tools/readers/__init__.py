"""Files as text. `process.read_file` reads one in a process of its own; the other modules run in that process."""
