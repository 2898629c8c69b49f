"""Rules of the legalization by kind of op: each gives an op of the mixture a form in StableHLO, or simplifies StableHLO."""
