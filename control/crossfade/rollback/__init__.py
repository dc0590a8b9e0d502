"""Going back: levels, snapshots, the log."""
