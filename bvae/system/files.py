"""Reading and writing files: whole or not at all, and errors that a user can act on."""

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bvae.errors import InputError

LONGEST_HEADER = 100 * 2**20  # bytes of a safetensors file, as the safetensors library has it
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block succeeds.

    When the block raises, the temporary file is removed and an existing `path` is left as it was. A process that is
    killed leaves its own behind; the next that writes into the folder removes it. Raises InputError when `path` is a
    folder, the disk is full, read-only or broken, or the folder is not the user's to write.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, it is False where the folder above may not be read
        raise InputError(f"{path}: a folder, expected a file to write. Give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_parts(path.parent)
        prefix = f".{path.stem}-{_host()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=f".part{path.suffix}")
    except OSError as error:
        raise _unwritable(path, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise _unwritable(path, error) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file whole or not at all, as `whole_file` writes one."""
    with whole_file(target) as part:
        shutil.copyfile(source, part)


def _unwritable(path: Path, error: Exception) -> InputError:
    remedy = "Nothing was written. Check the space on the disk and the permissions of the folder, then try again."
    return InputError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}). {remedy}")


def make_folder(path: Path) -> None:
    """Make a folder for results, if it is not there. Raises InputError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "a file" if os.path.isfile(path) else f"cannot be made ({error.strerror})"
        raise InputError(f"{path}: {found}, expected a folder for results. Choose another folder.") from None


def describe_path_error(error: OSError, given: Iterable[Path]) -> str | None:
    """What to tell the user of an error about a path that was given, or one below it; None for every other error."""
    names = [os.path.abspath(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    for name in names:
        if any(Path(name).is_relative_to(os.path.abspath(path)) for path in given):
            return (
                f"{os.path.relpath(name)}: cannot be used ({error.strerror}), expected a path that can be read or"
                " written. Correct the path, or change its permissions."
            )
    return None


def remove_dead_parts(folder: str | Path) -> None:
    """Remove the temporary files of `whole_file` in a folder whose processes, of this machine, are no more."""
    for path in Path(folder).glob(f".*-{_host()}-*-*.part*"):
        process = int(path.name.rpartition(f"-{_host()}-")[2].partition("-")[0])
        with contextlib.suppress(PermissionError):  # another user's: alive, or not ours to remove
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)


def _host() -> str:
    """This machine in eight letters: process ids mean nothing on another one that shares the folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all. NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def as_line(row: dict[str, float]) -> str:
    """Numbers by name as a line of JSON, which has no NaN and no infinity: they are text."""
    return json.dumps({name: value if math.isfinite(value) else str(value) for name, value in row.items()}) + "\n"


def read_lines(path: Path) -> list[dict[str, float]]:
    """The rows that a file of `as_line`s holds; none if there is no such file.

    A line that is not whole does not count: another process may be writing it, or was killed while it did.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append({name: float(value) for name, value in json.loads(line).items()})
    return rows


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or damaged one, or one with NaN, raises InputError that names it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Run the step that makes it, or plain `snakemake`.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Wanted a JSON file.") from None
    except ValueError as error:  # no UTF-8, no JSON, or a key twice
        raise InputError(
            f"{path}: not a JSON file ({error}). Delete it and run the step that makes it again."
        ) from None


# What text YAML 1.1 may take for a number or a truth value. It also takes 010, 0x10, 1_000, 1:30, yes and 2024-01-01.
PLAIN = {
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "bool": "true|True|TRUE|false|False|FALSE",
    "timestamp": "(?!)",
}
REMEDY = {
    "int": "Write it in decimal digits only, or in quotes if it is text.",
    "float": "Write it in decimal digits only, or in quotes if it is text.",
    "bool": "Write true or false, or put it in quotes if it is text.",
    "timestamp": "Put it in quotes if it is text.",
}


def read_yaml(path: str | Path) -> Any:
    """Read a YAML or JSON file; InputError names a missing or damaged one, and every line that is not what it seems.

    That is a key that is given twice, of which the first would be ignored, and text that YAML takes for another number
    or kind of value than its reader does.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        with contextlib.suppress(json.JSONDecodeError):  # Snakemake, too, takes a file for JSON first
            return json.loads(text, object_pairs_hook=_each_once)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        faults = [f"line {line}: {fault}" for line, _, fault in sorted(_traps(loader, node))]
        value = None if faults or node is None else loader.construct_document(node)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Studies and claims are in config/.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Wanted a YAML file.") from None
    except RecursionError:
        raise InputError(f"{path}: not a YAML file: nested too deeply. Correct it.") from None
    except (ValueError, yaml.YAMLError) as error:  # ValueError: bytes that are no UTF-8, an endless number
        raise InputError(f"{path}: not a YAML file: {str(error)[:280]}") from None
    if faults:
        raise InputError(listed(f"{path} has", faults))
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} is given twice; keep one")
        found[key] = value
    return found


def _traps(loader: Any, root: Any) -> Iterator[tuple[int, int, str]]:
    """The line and the column of each place in a composed document that is not what it seems, and what it is."""
    import yaml

    seen, waiting = set(), [root] if root else []
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias leads to a node again
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
            lines: dict[str, int] = {}
            for key, _ in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines:
                    fault = f"the key {name[:60]!r} is also in line {lines[name]}. Keep one."
                    yield line, key.start_mark.column, fault
                lines.setdefault(name, line)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif (kind := node.tag.rpartition(":")[2]) in PLAIN and not re.fullmatch(PLAIN[kind], node.value):
            try:
                value = repr(loader.construct_object(node))
            except (ValueError, yaml.YAMLError):
                value = kind
            fault = f"YAML takes {node.value[:60]!r} for {value[:60]}. {REMEDY[kind]}"
            yield node.start_mark.line + 1, node.start_mark.column, fault


def listed(head: str, faults: Sequence[str]) -> str:
    """A message of a line for each of some faults, each once; of many, and of a long one, the beginning.

    >>> listed("mine.yaml has", ["line 3: too long", "line 3: too long"])
    'mine.yaml has 1 fault:\\n  - line 3: too long'
    """
    each = [repr(fault)[1:-1] if "\n" in fault else fault for fault in dict.fromkeys(faults)]
    lines = [f"  - {fault if len(fault) <= 300 else f'{fault[:297]}...'}" for fault in each]
    rest = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
    return "\n".join([f"{head} {len(lines)} fault{'s' * (len(lines) > 1)}:", *lines[:20], *rest])


def sha256_of_json(value: Any) -> str:
    """SHA-256 of a value as JSON with sorted keys, as 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_tensors(path: str | Path, tensors: dict, *, form: str, facts: dict) -> None:
    """Write a safetensors file that says what it is: `form` and `facts` as JSON in its metadata, whole or not at all.

    The metadata are one entry, because safetensors writes several in random order: equal contents give equal bytes.
    Raises InputError when the disk is full. Tensors that are backed by a file are not copied into memory.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    metadata = {"bvae": json.dumps({"form": form, **facts}, sort_keys=True)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise _unwritable(Path(path), error) from None


def read_tensors(path: str | Path, *, form: str, remedy: str) -> tuple[dict, dict]:
    """The tensors and the facts of a file by `write_tensors`.

    Raises InputError, ending in `remedy`, for a file that is missing, damaged, or not of this form.
    """
    from safetensors import SafetensorError, safe_open

    facts = read_facts(path, form=form, remedy=remedy)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged, or not a safetensors file ({error}). {remedy}") from None


def read_facts(path: str | Path, *, form: str | None = None, remedy: str = "") -> dict:
    """The facts of a file by `write_tensors`, of this form or of any, without its tensors and without importing torch.

    Raises InputError as `read_tensors` does.
    """
    return _read_header(path, form, remedy)[0]


def read_shapes(path: str | Path) -> dict[str, list[int]]:
    """The shapes of the tensors of a file by `write_tensors`, read as `read_facts` reads."""
    return {name: tensor["shape"] for name, tensor in _read_header(path, None, "")[1].items()}


def _read_header(path: str | Path, form: str | None, remedy: str) -> tuple[dict, dict]:
    """The facts, and what the header says of each tensor."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
            facts = json.loads(header.pop("__metadata__", {}).get("bvae", "{}"))
            end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
            if (size := os.fstat(file.fileno()).st_size) != end:
                raise ValueError(f"{size} bytes instead of {end}")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {remedy}") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:  # no file of ours to delete
        raise InputError(
            f"{path}: cannot be read ({error.strerror}), expected a safetensors file. Give the path of one, or change"
            " its permissions."
        ) from None
    except (OSError, ValueError, AttributeError, LookupError, TypeError, struct.error) as error:
        raise InputError(f"{path}: damaged, or not a safetensors file ({error}). {remedy}") from None
    found = facts.pop("form", None)
    if found is None or found != (form or found):
        raise InputError(f"{path}: found format {found!r}, wanted {form or 'one of this suite'!r}. {remedy}")
    return facts, header
