"""Ordinary classifiers of scikit-learn on an experiment's data, beside its networks."""
