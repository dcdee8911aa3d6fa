"""A study: what its file may say, the runs that it means, and how far they are."""
