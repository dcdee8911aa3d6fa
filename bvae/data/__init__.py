"""Data sets: what one is, and how published and own images become one file."""

from bvae.data.dataset import Dataset, arrays_sha256, load, make, save, to_batch

__all__ = ["Dataset", "arrays_sha256", "load", "make", "save", "to_batch"]
