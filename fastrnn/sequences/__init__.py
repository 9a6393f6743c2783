"""Models that judge sequences: their data, networks and targets; no scikit-learn here."""
