"""Starts the command in processes of its own, quickly, and kills them.

Run as a program, it imports the package once, and forks a process for each line of
standard input, a JSON list of a folder to run in and arguments. It answers with the
process's ID, and then with its exit code.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import sklearn_asd


class Forks:
    """A process that forks the command, for tests that start it again and again."""

    def __init__(self):
        package = str(Path(sklearn_asd.__file__).parents[1])
        self.running = None
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
        )

    def start(self, *arguments):
        """Start the command in the current folder; its process ID."""
        line = json.dumps([os.getcwd(), *map(str, arguments)])
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.running = int(self.process.stdout.readline())
        return self.running

    def wait(self):
        """Exit code of the command, negative for a signal."""
        code = int(self.process.stdout.readline())
        self.running = None
        return code

    def kill(self, process, number=signal.SIGKILL):
        os.kill(process, number)
        return self.wait()

    def end(self):
        """Kill what a failed test has left."""
        if self.running is not None:
            self.kill(self.running)

    def close(self):
        self.end()
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0


def serve():
    # All that the command would import when it is used.
    import sklearn_asd._cli.watch
    import sklearn_asd.detectors
    import sklearn_asd.meta
    import sklearn_asd.networks
    from sklearn_asd._cli import main

    for package in (sklearn_asd.detectors, sklearn_asd.meta, sklearn_asd.networks):
        for name in package.__all__:
            getattr(package, name)

    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            folder, *arguments = json.loads(line)
            os.chdir(folder)
            for number, name in ((1, "output.txt"), (2, "errors.txt")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
            main(arguments)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
