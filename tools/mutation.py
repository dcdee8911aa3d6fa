"""`make mutation`: break one line that a number rests on, and see that the tests notice; for each of these lines.

Each mutation is made in a copy of the checkout, where the tests named run until the first of them fails. It ends with
an error when no test fails.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTATIONS = {  # name: file, its line, the line that takes its place, the tests to run
    "the sign of the KL": (
        "bvae/objective.py",
        "return Elbo(log_likelihood - kl, log_likelihood, kl)",
        "return Elbo(log_likelihood + kl, log_likelihood, kl)",
        "tests/test_objective.py",
    ),
    "the weight tie": (
        "bvae/networks.py",
        "return self.encoder_weights",
        "return build_weights(self.layout)",
        "tests/test_networks.py",
    ),
    "the scale of the noise": (
        "bvae/objective.py",
        "return mean + torch.exp(0.5 * log_variance) * noise",
        "return mean + torch.exp(log_variance) * noise",
        "tests/test_objective.py",
    ),
    "the side of the margin": (
        "bvae/report/claims.py",
        'return "not reproduced" if difference.interval_90[0] > margin else "inconclusive"',
        'return "not reproduced" if difference.interval_90[1] < margin else "inconclusive"',
        "tests/test_claims.py",
    ),
    "the pairing of seeds": (
        "bvae/report/claims.py",
        'columns = [[values[arm][seed] for seed in seeds] for arm in claim["arms"]]',
        'columns = [sorted(values[arm].values()) for arm in claim["arms"]]',
        "tests/test_claims.py",
    ),
    "the held-out split": (
        "bvae/data/fetch.py",
        "held, kept = order[:count].sort().values, order[count:].sort().values",
        "held, kept = order[:count].sort().values, order.sort().values",
        "tests/test_sources.py",
    ),
    "the hash check": (
        "bvae/data/fetch.py",
        "if expected_sha256 not in (None, dataset.sha256):",
        "if expected_sha256 is None:",
        "tests/test_data.py",
    ),
    "the skipped step": (
        "bvae/training.py",
        "skips = (~(norm <= gradient_skip)).float()",
        "skips = (~(norm >= 0)).float()",
        "tests/test_training.py",
    ),
    "1 / (n - 1)": (
        "bvae/report/claims.py",
        "error = float(worse.std(ddof=1) / math.sqrt(n))",
        "error = float(worse.std(ddof=0) / math.sqrt(n))",
        "tests/test_claims.py",
    ),
    "the order in Holm's method": (
        "bvae/report/verdicts.py",
        "order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))",
        "order = sorted(((p, i) for i, p in enumerate(p_values) if not math.isnan(p)), reverse=True)",
        "tests/test_claims.py",
    ),
    "the better side": (
        "bvae/report/verdicts.py",
        'sign = 1 if better == "lower" else -1',
        'sign = 1 if better == "higher" else -1',
        "tests/test_verdicts.py",
    ),
    "the two sides of a lead": (
        "bvae/report/verdicts.py",
        "return min(1.0, 2 * below), min(1.0, 2 * above)",
        "return min(1.0, below), min(1.0, above)",
        "tests/test_verdicts.py",
    ),
    "the primary claim before the others": (
        "bvae/report/verdicts.py",
        "if not primary_holds:",
        "if not pairs:",
        "tests/test_verdicts.py",
    ),
    "a claim without a p-value counts": (
        "bvae/report/verdicts.py",
        "columns = ([1.0 if math.isnan(pair[side]) else pair[side] for pair in pairs] for side in (0, 1))",
        "columns = ([pair[side] for pair in pairs] for side in (0, 1))",
        "tests/test_verdicts.py",
    ),
    "shares without a gap": (
        "bvae/report/sizes.py",
        "for share, verdict in reversed(verdicts):",
        "for share, verdict in verdicts:",
        "tests/test_sizes.py",
    ),
    "the bound on the log-variance": (
        "bvae/networks.py",
        "if self.log_variance_bound is not None:",
        "if False:",
        "tests/test_bound.py",
    ),
    "the correction that is not tied": (
        "bvae/networks.py",
        "return shared.decode(y, bias) + (y @ self.first @ self.second).unflatten(1, self.decoded_shape)",
        "return shared.decode(y, bias)",
        "tests/test_networks.py",
    ),
}


def caught_by(name: str, folder: Path) -> str:
    """The first test that fails with a mutation; "" when none does."""
    file, line, broken, tests = MUTATIONS[name]
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "logs", "resources"))
    text = (folder / file).read_text(encoding="utf-8")
    if text.count(line) != 1:
        sys.exit(f"{name}: expected this line once in {file}, got {text.count(line)}: {line}")
    (folder / file).write_text(text.replace(line, broken), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", tests]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shutil.rmtree(folder)
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else ""


def main() -> None:
    """Try every mutation, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MUTATIONS), metavar="NAME", help="such as 'the weight tie'")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="bvae-mutation-") as scratch:
        for name in parser.parse_args().names:
            test = caught_by(name, Path(scratch) / "checkout")
            missed += not test
            print(f"{name}: {f'caught by {test}' if test else 'NOT CAUGHT'}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
