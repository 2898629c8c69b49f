"""What a job leaves in its folder: events, levels, the symbol record, measurements and the result."""
