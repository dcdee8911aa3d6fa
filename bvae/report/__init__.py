"""From numbers to tables, claims, figures, model cards and publications."""
