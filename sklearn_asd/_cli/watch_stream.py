"""Watching a stream of sound on standard input."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sklearn_asd._cli.models import Model
from sklearn_asd._cli.watching import Watch
from sklearn_asd._utils.files import replacing
from sklearn_asd.audio.reading import BadClipError
from sklearn_asd.meta.structure import find_front_end
from sklearn_asd.monitoring.events import LogEntry
from sklearn_asd.monitoring.monitor import Monitor
from sklearn_asd.monitoring.pcm import ByteReader, PcmDecoder, StreamError

__all__ = ["WatchedStream"]

# Seconds between two looks at signals and commands.
_TICK = 0.1


class WatchedStream:
    """A stream of one machine whose windows are judged with a model."""

    def __init__(
        self, watch: Watch, model: Model, machine: str | None, options: dict[str, Any]
    ) -> None:
        self.watch = watch
        self.model = model
        self.machine = machine
        self.options = options
        self._decoder = _make_decoder(options)
        front_end = find_front_end(model.detector)
        self._channel: Any = getattr(front_end, "channel", "mix")
        self._monitor: Monitor | None = None
        self._stop = 0.0  # of the last window, in s
        self._n_pushed = 0
        self._last: deque[np.ndarray] = deque()  # samples for --keep

    def run(self) -> None:
        """Judge windows until the stream ends or a signal comes."""
        reader = ByteReader(sys.stdin.fileno())
        begins_anew = False
        while not self.watch.stop.came:
            content = reader.get(_TICK)
            self.watch.look_after_others()
            self._follow_log()
            if content is None:
                begins_anew |= self._check_silence()
                continue
            if not content:
                self.watch.report(
                    "The stream has ended. What came after the last whole window is "
                    "not judged."
                )
                break
            samples = self._choose_channel(self._decode(content))
            if len(samples):
                self._push(samples, time.time() if begins_anew else None)
                begins_anew = False

    def _follow_log(self) -> None:
        """Take over the state of the log, in which an alarm may be acknowledged."""
        state = self.watch.log.states.get(self.machine or "")
        if self._monitor is not None and state is not None:
            self._monitor.state = state

    def _decode(self, content: bytes) -> np.ndarray:
        try:
            return self._decoder.decode(content)
        except StreamError as error:
            raise ValueError(
                f"standard input cannot be judged: {error}, for example by ffmpeg -f "
                "wav -, or with --format s16le --rate 16000"
            ) from error

    def _choose_channel(self, samples: np.ndarray) -> np.ndarray:
        if self._channel == "mix":
            return samples.mean(axis=1)
        if self._channel >= samples.shape[1]:
            raise BadClipError(
                f"the stream has {samples.shape[1]} channel(s), and the model uses the "
                f"one of number {self._channel}, counted from 0: record it"
            )
        return samples[:, self._channel]

    def _push(self, samples: np.ndarray, moment: float | None) -> None:
        """Push samples of at most one window at a time, to log each one."""
        monitor = self._monitor or self._make_monitor()
        n_hop = max(1, int(monitor.hop * monitor.sample_rate))
        for start in range(0, len(samples), n_hop):
            block = samples[start : start + n_hop]
            self._keep(block, monitor)
            events = monitor.push(block, moment)
            moment = None
            entries = [event for event in events if event.verdict is None]
            entries += self._new_windows(monitor)
            if entries:
                self.watch.take_windows(entries, monitor.state, self._save_sound)
            if self.watch.stop.came:
                return

    def _make_monitor(self) -> Monitor:
        self._monitor = Monitor(
            self.model.detector,
            self.options["window"],
            self.options["hop"],
            rule=self.watch.rule,
            sample_rate=self._decoder.sample_rate,
            machine=self.machine,
            keep_windows=4,
            state=self.watch.log.states.get(self.machine or ""),
        )
        return self._monitor

    def _new_windows(self, monitor: Monitor) -> list[LogEntry]:
        """Windows since the last call."""
        windows = [one for one in monitor.entries if one.verdict]
        new = [one for one in windows if (one.stop or 0.0) > self._stop]
        self._stop = max([self._stop, *(one.stop or 0.0 for one in new)])
        return new

    def _check_silence(self) -> bool:
        """Notice that nothing comes; whether that is so."""
        self.watch.check_silence()
        state = self.watch.log.states.get(self.machine or "")
        self._follow_log()
        return state is not None and state.condition == "no data"

    def _keep(self, block: np.ndarray, monitor: Monitor) -> None:
        """Remember the last samples, for an alarm to come."""
        self._n_pushed += len(block)
        if self.watch.keep is None:
            return
        self._last.append(block)
        longest = (self.options["before"] + monitor.hop) * monitor.sample_rate
        n_samples = sum(map(len, self._last))
        while n_samples - len(self._last[0]) >= longest:
            n_samples -= len(self._last.popleft())

    def _save_sound(self, entry: LogEntry, folder: Path) -> None:
        """Save the last seconds before the end of a window."""
        assert self._monitor is not None
        rate = self._monitor.sample_rate
        samples = np.concatenate(self._last)
        stop = len(samples) - (self._n_pushed - round((entry.stop or 0.0) * rate))
        start = max(0, stop - round(self.options["before"] * rate))
        samples = np.clip(samples[start:stop], -1, 1)
        with replacing(folder / "sound.flac") as file:
            soundfile.write(file, samples, round(rate), format="FLAC", subtype="PCM_16")


def _make_decoder(options: dict[str, Any]) -> PcmDecoder:
    form, rate = options["form"], options["rate"]
    if (form is None) != (rate is None):
        raise ValueError(
            "raw samples need both --format and --rate, and a WAV needs neither: give "
            f"{'--format' if form is None else '--rate'} too"
        )
    return PcmDecoder(form, rate, options["channels"])
