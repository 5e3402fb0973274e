"""Hugging Face: the classes that transformers loads, and the export of a checkpoint with them."""
