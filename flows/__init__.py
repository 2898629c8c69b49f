"""Configuration, runs and reports: what turns YAML into jobs, runs them with Prefect, and keeps the record."""
