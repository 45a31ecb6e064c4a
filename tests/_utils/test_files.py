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
