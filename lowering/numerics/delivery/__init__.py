"""What a job delivers, and how it is executed, probed and joined."""
