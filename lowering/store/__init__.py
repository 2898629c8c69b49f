"""Results of stages by key: the key and its provenance, the entries on disk and at a URL, signatures, and eviction."""
