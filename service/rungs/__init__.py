"""What each rung is set to, whether it could speak, and what happens when one breaks."""
