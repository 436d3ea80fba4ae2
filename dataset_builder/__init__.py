"""Tasks and trajectories out of a teacher, and the dataset that they become."""
