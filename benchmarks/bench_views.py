"""Nine views of 10 s clips and their log-mels, compared to librosa.

Time: a loop of ``librosa.effects`` and ``librosa.feature`` over the same clips, with as
many workers, takes turns with the library. Memory: each number of views runs in its own
process, whose peak is compared to the size of the resulting frames.
"""

import argparse
import functools
import json
import subprocess
import sys
from pathlib import Path

import measuring
import plain
from joblib import Parallel, delayed

from sklearn_asd import AugmentationExpander, LogMelSegmenter

BOUND = 3  # times as fast as librosa
MEMORY_BOUND = 30  # MB that nine views may take more than one, beyond their frames


def main():
    args = parse_arguments()
    if args.memory_of is not None:
        print(json.dumps(measure_memory(args.memory_of, args.clips)))
        return
    clips = measuring.make_clips(8)
    figures = [compare(clips, n_jobs, args.repeats) for n_jobs in (1, 2)]
    one, nine = (in_own_process(k, args.clips) for k in (1, 9))
    verdict = "held" if nine - one <= MEMORY_BOUND else "MISSED"
    memory = f"Memory of {args.clips} clips, beyond the frames that result: "
    memory += f"{one:.0f} MB with one view, {nine:.0f} MB with nine: {verdict} "
    memory += f"(at most {MEMORY_BOUND} MB more)."
    measuring.keep("views", figures, [memory])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--clips", type=int, default=200, help="whose memory is measured (default: 200)"
    )
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(clips, n_jobs, repeats):
    """Time all clips each way, in turn."""
    ways = {
        "librosa": functools.partial(make_librosas_loop, clips, n_jobs),
        "ours": functools.partial(make_segmenter, clips, n_jobs),
    }
    seconds = measuring.take_turns(ways, repeats)
    return measuring.compare_latency(
        f"nine views and log-mels of a 10 s clip, {n_jobs} worker(s)",
        "librosa's loop on as many",
        {way: total / len(clips) for way, total in seconds.items()},
        "ours",
        "librosa",
        BOUND,
    )


def make_librosas_loop(clips, n_jobs):
    # Processes, in which it is faster than in threads.
    parallel = Parallel(n_jobs=n_jobs).__enter__()
    return lambda: parallel(delayed(plain.log_mels_of_views)(y) for y in clips)


def make_segmenter(clips, n_jobs):
    views = AugmentationExpander().transform(clips)
    segmenter = LogMelSegmenter(n_jobs=n_jobs)
    return lambda: segmenter.transform(views)


def measure_memory(n_views, n_clips):
    """Peak of this process above its start and the frames, in MB (Linux)."""
    (clip,) = measuring.make_clips(1)
    clips = [clip] * n_clips
    segment = LogMelSegmenter()
    expand = AugmentationExpander()
    segment.transform(expand.transform(clips[:1]))  # libraries and filters are loaded
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = measuring.memory("VmRSS")
    X = segment.transform(expand.transform(clips) if n_views == 9 else clips)
    return measuring.memory("VmHWM") - before - X.frames.nbytes / 1e6


def in_own_process(n_views, n_clips):
    command = [sys.executable, __file__, "--memory-of", str(n_views)]
    command += ["--clips", str(n_clips)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


if __name__ == "__main__":
    main()
