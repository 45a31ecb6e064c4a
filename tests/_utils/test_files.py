import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

import pytest

from sklearn_asd._utils import files
from sklearn_asd._utils.files import check_outputs, replacing, unfinished


def test_a_file_takes_the_place_of_the_older_one_when_it_is_complete(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (part,) = unfinished(path)
        assert part.read_bytes() == b"new"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_completed_leaves_the_older_one(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    path, received = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    with replacing(path) as file:
        file.write(b"new")
    reader.join()
    assert received == [b"new"]
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize(
    "kind", ["relative", "absolute", "chain", "hard", "self", "gone"]
)
def test_a_link_is_replaced_and_what_it_leads_to_stays_as_it_is(tmp_path, kind):
    """Stores of DVC, git-annex and model hubs hold files named by their content."""
    store = tmp_path / ".cache" / "ab12"
    store.parent.mkdir()
    store.write_bytes(b"old")
    path = tmp_path / "model"
    (tmp_path / "middle").symlink_to(".cache/ab12")
    targets = {"relative": ".cache/ab12", "absolute": store, "chain": "middle"}
    targets |= {"self": "model", "gone": "nowhere"}
    if kind == "hard":
        os.link(store, path)
    else:
        store.chmod(0o444)
        path.symlink_to(targets[kind])
    check_outputs({"-o": path})
    with replacing(path) as file:
        file.write(b"new")
        assert len(unfinished(path)) == 1
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert store.read_bytes() == b"old"


def test_a_new_file_has_the_permissions_of_the_older_one_or_those_of_umask(tmp_path):
    path = tmp_path / "model"
    for mode in (0o600, 0o640, 0o664):
        path.touch()
        path.chmod(mode)
        with replacing(path) as file:
            file.write(b"new")
        assert path.stat().st_mode & 0o7777 == mode
    path.unlink()
    umask = os.umask(0o027)
    try:
        with replacing(path):
            pass
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_write_protected_file_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may always write
    with pytest.raises(PermissionError, match=r"write-protected: permit writing, or"):
        check_outputs({"-o": path})
    with pytest.raises(PermissionError, match=r"write-protected"), replacing(path):
        pass
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "is a folder: name a file in it"),
        ("link", "is a folder: name a file in it"),
        ("gone/model", "'gone' does not exist"),
        ("file/model", "'file' does not exist"),
        ("x" * 250, r"\(File name too long\): name another file"),
        ("", "is a folder"),
        (".", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    tmp_path, monkeypatch, name, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=message):
        check_outputs({"-o": name})
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "kind", ["name", "relative", "link", "hard link", "link to link"]
)
def test_an_output_that_is_an_input_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    recording, output = tmp_path / "monday.wav", tmp_path / "output"
    recording.write_bytes(b"sound")
    if kind == "link":
        output.symlink_to("monday.wav")
    elif kind == "hard link":
        os.link(recording, output)
    elif kind == "link to link":
        (tmp_path / "middle").symlink_to(recording)
        output.symlink_to("middle")
    else:
        output = recording if kind == "name" else "./gone/../monday.wav"
        (tmp_path / "gone").mkdir()
    with pytest.raises(
        ValueError, match=r"--csv '.*' is the file '.*monday.wav', which"
    ):
        check_outputs({"--csv": output}, ["nothing", recording])
    assert recording.read_bytes() == b"sound"
    check_outputs({"--csv": tmp_path / "other"}, [recording])


@pytest.mark.parametrize("second", ["out", "./out", "link", "/dev/../{}/out"])
def test_two_outputs_cannot_be_one_file(tmp_path, monkeypatch, second):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("out")
    second = second.format(tmp_path)
    for _ in range(2):  # before it exists, and after
        with pytest.raises(ValueError, match="--report and --csv are one file"):
            check_outputs({"--csv": "out", "--report": second})
        (tmp_path / "out").touch()
    check_outputs({"--csv": "/dev/null", "--report": "/dev/null"})


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/stdout")
@pytest.mark.parametrize("path", ["/dev/stdout", "/proc/self/fd/1", "out"])
def test_the_file_that_the_shell_opened_is_written_to_in_order(tmp_path, path):
    """Replacing it would lose what is printed, and as root a link of the system."""
    script = (
        f"import runpy; files = runpy.run_path({files.__file__!r})\n"
        "print('before')\n"
        f"files['check_outputs']({{'--csv': {path!r}}})\n"
        f"with files['replacing']({path!r}) as file:\n"
        "    file.write(b'table\\n')\n"
        "print('after')"
    )
    with open(tmp_path / "out", "wb") as out:
        command = [sys.executable, "-c", script]
        run = subprocess.run(command, stdout=out, cwd=tmp_path, check=False)
    assert run.returncode == 0
    assert (tmp_path / "out").read_text() == "before\ntable\nafter\n"
    assert os.path.islink("/dev/stdout")


# -- faults --------------------------------------------------------------------------

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and limits")


def in_a_child(function):
    """Run a function in a fork, which ends at once; give its process."""
    process = os.fork()
    if process == 0:
        try:
            function()
        finally:
            os._exit(0)
    return process


def write(path, letter):
    with replacing(path) as file:
        for _ in range(20):
            file.write(letter * 10_000)


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_killed_at_any_moment_leaves_a_whole_file(tmp_path, rng):
    path = tmp_path / "model"
    write(path, b"0")
    for _ in range(60):
        process = in_a_child(lambda: write(path, b"1"))
        time.sleep(rng.uniform(0, 0.005))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert path.read_bytes() in (b"0" * 200_000, b"1" * 200_000)


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_of_two_processes_that_write_one_wins(tmp_path):
    path = tmp_path / "model"
    for _ in range(20):
        for process in [in_a_child(lambda c=c: write(path, c)) for c in (b"0", b"1")]:
            os.waitpid(process, 0)
        assert path.read_bytes() in (b"0" * 200_000, b"1" * 200_000)
    assert list(tmp_path.iterdir()) == [path]


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("size", [0, 1, 9_999, 199_999])
def test_a_full_disk_leaves_the_older_file(tmp_path, size):
    import resource

    path = tmp_path / "model"
    write(path, b"0")

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with suppress(OSError):
            write(path, b"1")

    os.waitpid(in_a_child(fill), 0)
    assert path.read_bytes() == b"0" * 200_000
    assert list(tmp_path.iterdir()) == [path]
