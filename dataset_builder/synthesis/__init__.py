"""Tasks, files and trajectories out of a teacher model: the paper's pipeline, stage by stage.

A stage is a function from a [`Candidate`] to the next one. It raises [`Rejected`] for a candidate that is not good
enough.
"""

from .candidate import Candidate, Failed, PlannedFile, Rejected, Verdict


__all__ = ["Candidate", "Failed", "PlannedFile", "Rejected", "Verdict"]
