"""From a trained run to numbers: metrics, features, controls, cost."""
