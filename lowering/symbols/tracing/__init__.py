"""What torch logs about symbols while it traces a model: the events, the model's code lines, and the exported program with its ShapeEnv."""
