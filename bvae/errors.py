"""The error that a user can act on, and who shows it."""

from collections.abc import Collection

# An environment variable, set by the logger of workflow/logger/: it prints the end of the log of a step that fails, so
# the step does not say its error on the terminal as well.
LOGS_ARE_SHOWN = "BVAE_LOGS_ARE_SHOWN"


class InputError(Exception):
    """A user's mistake or a bad file: one message that names it, and the remedy. Shown without a traceback."""


# What errors say when the memory of a GPU is used up. cuDNN tries all ways to compute a convolution, and then does not
# name memory as the reason; cuBLAS and the driver have words of their own.
OUT_OF_GPU_MEMORY = (
    "CUDA error: out of memory",
    "unable to find an engine to execute this computation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def out_of_gpu_memory(error: BaseException) -> bool:
    """Whether an error of torch says that the memory of a GPU is used up. It does not need torch."""
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_GPU_MEMORY))


def check_name(kind: str, name: object, known: Collection[str]) -> None:
    """Raise InputError for a name that is not known, with those that are."""
    if name not in known:
        raise InputError(f"{kind}: found '{name}', wanted one of {', '.join(known)}.")
