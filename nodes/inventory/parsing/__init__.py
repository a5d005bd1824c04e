"""How text that a host printed is read."""
