"""What the tests share."""

from pathlib import Path


ROOT = Path(__file__).parents[2]
"""The repository."""
DATA = ROOT / "tests" / "data"
"""Files that other programs made."""
