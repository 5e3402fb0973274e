"""Slow, obvious rewrites in float64 of what the library does fast. They share no code with it."""
