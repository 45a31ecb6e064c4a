"""Run all benchmarks of speed and memory, and write the page docs/benchmarks.md."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import measuring

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
PARTS = {
    "frontend": "From files to log-mels",
    "views": "Augmented views",
    "training": "Training, with centre loss",
    "training_avx2": "Training, as on a processor with AVX2 only",
    "scoring": "Scoring",
    "onnx": "Graphs of `export_onnx`",
    "growth": "As a collection grows",
    "startup": "Start of a process",
    "monitor": "Always listening",
}

# Makes torch and its libraries do without the instructions of newer processors, whose
# clock and memory stay.
AS_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}

INTRODUCTION = """# Speed and memory

`make bench` measures these figures. Each is the median of five, from one run in which
the library and a reference take turns. On a busy or different computer only the ratios
mean much. Beside each figure with a bound stands whether the bound holds on that
computer, and why not. The references are in `benchmarks/plain.py`: networks layer by
layer as the paper prints them, float32, a loader that collates single segments, two
optimisers; and simple loops over librosa.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    for name in args.only:
        print(f"\n{PARTS[name]}\n", flush=True)
        script, _, imitated = name.partition("_")
        settings = os.environ | (AS_AVX2 if imitated else {})
        command = [sys.executable, HERE / f"bench_{script}.py"]
        subprocess.run(command, env=settings, check=True)
    results = {name: measuring.RESULTS / f"{name}.json" for name in PARTS}
    results = {
        name: json.loads(path.read_text())
        for name, path in results.items()
        if path.exists()
    }
    PAGE.write_text(write_page(results))


def write_page(results):
    text = INTRODUCTION
    for name, result in results.items():
        figures = [measuring.Figure(**figure) for figure in result["figures"]]
        text += f"\n## {PARTS[name]}\n\nOn {result['computer']}.\n\n"
        text += measuring.tabulate(figures) + "\n" if figures else ""
        text += "\n".join(["", *result["notes"]]) + "\n" if result["notes"] else ""
    return text


if __name__ == "__main__":
    main()
