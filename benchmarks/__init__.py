"""Measurements against peers, in one run, as ratios. They know the service's rooms, never back."""
