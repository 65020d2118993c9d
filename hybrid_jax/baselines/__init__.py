"""Classic classifiers of scikit-learn on an experiment's data, as baselines."""
