"""The virtual street: emulated sensors that speak the real protocols, and a city that listens. For demo and benches."""
