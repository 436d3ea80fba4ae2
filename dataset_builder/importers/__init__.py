"""Trajectories of other formats as rows of a run folder, which exports, trains and shows like one of `t3 build`."""
