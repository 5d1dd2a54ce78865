"""Few labels and many rows, beside peers and published figures: see ``__main__``."""
