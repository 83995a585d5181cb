"""The files that a command is given: which become which, what may be replaced, one after another."""
