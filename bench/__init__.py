"""Side-by-side benchmark of this archive against the peers that are installed: ``python -m bench --help``."""
