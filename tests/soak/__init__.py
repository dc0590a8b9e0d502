"""A randomised model test of the data engine; see __main__ for how to run it."""
