"""Tables, plots and pages of evaluations, tuning runs and datasets; cards are written with the same parts.

The names below are those of files that one command writes and another reads.
"""

TRAINING_FILE, CURVES_FILE = "train.json", "curves.png"
"""Of `t3 train`."""
QUICKSTART_FILE, FAMILIES_FILE = "report.json", "families.png"
"""Of `t3 quickstart`."""
