"""The execution of a run: Prefect and its server, task runners, slots for memory and GPUs, retries and interruptions."""
