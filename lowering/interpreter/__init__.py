"""TorchScript files run node by node, so that torch.export captures them: lists, loops and state included."""
