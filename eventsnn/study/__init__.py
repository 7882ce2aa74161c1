"""Studies: what sparsity buys, measured."""
