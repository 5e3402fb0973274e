"""Token ids in, token ids out. Never sees text."""
