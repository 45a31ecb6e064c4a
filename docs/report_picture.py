"""Make docs/_static/report.png: the summary and the first clip of a report.

Run ``python docs/report_picture.py`` in an environment with the extra "report". It
needs Chromium. Look at the picture afterwards.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from sklearn_asd.datasets import make_machine_sounds

PICTURE = Path(__file__).parent / "_static" / "report.png"
WIDTH, HEIGHT = 1060, 1930  # in pixels: up to the end of the first recording
HIDE = "section[aria-labelledby=anomalous], .terms, .portrait .sound"


def write_recordings(folder):
    """Write normal sounds of three pumps, and new ones, of which one has a whistle."""
    sounds = make_machine_sounds(
        "pump", n_machines=3, n_test_normal=4, n_test_anomalous=0, random_state=0
    )
    for (machine, split), clips in sounds.groupby(["machine_id", "split"]):
        where = folder / ("recordings" if split == "train" else "new")
        where = where / f"pump_{int(machine) + 1}"
        where.mkdir(parents=True)
        for number, clip in enumerate(clips.itertuples()):
            samples = clip.audio
            if (machine, split, number) == ("02", "test", 1):
                samples = samples + whistle(len(samples), clip.sample_rate)
            day = "2026-03-02" if split == "train" else "2026-03-10"
            name = f"{day}_{6 + number:02d}00.wav"
            soundfile.write(where / name, samples, clip.sample_rate)


def whistle(n_samples, sample_rate):
    """Make a tone of 3 kHz that sounds from 4 to 7 s."""
    time = np.arange(n_samples) / sample_rate
    tone = 0.06 * np.sin(2 * np.pi * 3000 * time)
    return np.where((time >= 4) & (time < 7), tone, 0)


def main():
    """Fit, score, and draw the report."""
    command = [sys.executable, "-m", "sklearn_asd"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder)
        fit = ["fit", "recordings", "-o", "machines.asd"]
        score = ["score", "machines.asd", "new", "--report", "report.html"]
        subprocess.run([*command, *fit], cwd=folder, check=True)
        subprocess.run([*command, *score], cwd=folder, check=False)  # 1: anomalies
        page = folder / "report.html"
        style = f"<style>{HIDE} {{ display: none }}</style></head>"
        text = page.read_text().replace("</head>", style)
        page.write_text(text.replace(str(folder), "/plant"))
        browser = ["chromium", "--no-sandbox", "--headless", "--hide-scrollbars"]
        shot = folder / "report.png"
        size = f"--window-size={WIDTH},{HEIGHT}"
        subprocess.run([*browser, f"--screenshot={shot}", size, page], check=True)
        Image.open(shot).convert("RGB").quantize(256, kmeans=1).save(
            PICTURE, optimize=True
        )


if __name__ == "__main__":
    main()
