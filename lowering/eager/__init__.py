"""A model in eager mode: its module, arguments and outputs, and the values that it computes, in training and in wider dtypes too."""
