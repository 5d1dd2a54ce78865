"""Imputation of missing cells, beside peers and published figures: see ``__main__``."""
