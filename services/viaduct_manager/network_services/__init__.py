"""Network services: providers, what they have on hosts, and how it gets there."""
