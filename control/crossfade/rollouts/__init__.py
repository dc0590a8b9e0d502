"""Following a plan: steps, waits, what may advance, a simulation."""
