"""Failed exports: their kind, the model's line, torch's suggested fixes, and the messages in the author's words."""
