"""The folder of a run: its record, the jobs that it prepares, joined programs, and copies at a URL."""
