"""Plans: what is read for one, and what decides it."""
