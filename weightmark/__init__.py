"""Marks in weight files: keys, schemes, claims, what attacks leave of them; torch in `weightmark.training` only."""
