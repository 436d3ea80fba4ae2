"""Trajectory tuning: TRL's SFTTrainer with labels on what a controller wrote."""
