import os
import sys
from threading import Thread

import pytest

from sklearn_asd._utils.files import replacing, unfinished


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
def test_the_file_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "model").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("model")
    with replacing(link) as file:
        file.write(b"new")
        assert len(unfinished(link)) == 1
    assert (tmp_path / "model").read_bytes() == b"new"
    assert link.is_symlink()
