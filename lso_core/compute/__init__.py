"""Pure sums over the model: no clock, no I/O, no await."""
