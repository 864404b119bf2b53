"""Solvers: one function per step, all with the signature of `dit.sampling.solvers.step.Solver`."""
