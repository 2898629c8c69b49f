"""Factories of models: Hugging Face architectures, files of other formats, and the small models of the suites."""
