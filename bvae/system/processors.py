"""What computes: the GPU or the CPU, in which precision, and how exactly."""

import logging
import platform

import torch

from bvae.errors import InputError
from bvae.system.devices import leased_card

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # of a CPU, the last of an Arm


def pick_device(name: str = "auto") -> torch.device:
    """The GPU when there is one, else the CPU; or the device named.

    On a GPU it also calls `compute_exactly`. Raises InputError for a name that is none and for a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and (card := leased_card()) is not None:
            log.warning(
                "GPU %s is there, but this torch cannot use it: computes on the CPU. Is torch made for its driver?",
                card,
            )
    if name.startswith("cuda"):
        compute_exactly()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device: found '{name}', wanted auto, cpu, or cuda with the number of a card.") from None
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"device: found '{name}', but torch sees {count} GPUs. Choose auto, cpu or another card.")
    return device


def compute_exactly() -> None:
    """Let float32 mean float32 on a GPU, and the same settings give the same bytes.

    torch rounds the factors of convolutions to 10 bits by default (TF32), and those of matrix products where the
    variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set, as in some container images. It may add up the parts of a
    convolution in any order.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the device computes in it, float32 elsewhere."""
    if name != "auto":
        return name
    return "bfloat16" if computes_in_bfloat16(device) else "float32"


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them training in it is slower than in float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    instructions: dict = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not tell: none
    return any(instructions.get(name) for name in BFLOAT16_INSTRUCTIONS)


def device_name(device: torch.device) -> str:
    """The processor or card that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"
