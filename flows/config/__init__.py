"""From configuration files and overrides to checked jobs: composition, suites, sweeps, expectations, and JSON Schemas."""
