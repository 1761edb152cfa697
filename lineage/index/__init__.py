"""The index: what was read of many models, so that a pair can be tested without touching either again."""
