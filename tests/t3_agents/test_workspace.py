"""The folder that model-written code sees."""

import ctypes
import os
import threading
import unicodedata
from contextlib import suppress

import pytest
from PIL import Image

from t3_agents import workspace as workspaces
from t3_agents.errors import InputError
from t3_agents.task import File
from t3_agents.workspace import Workspace
from tests.helpers import in_threads, png


@pytest.fixture
def workspace(tmp_path):
    with Workspace(tmp_path / "run") as workspace:
        yield workspace


def test_an_attachment_lies_at_its_path(workspace):
    workspace.add(File.from_bytes(b"a,b\n", "files/table.csv"))
    assert workspace.read_bytes("files/table.csv") == b"a,b\n"
    assert workspace.list() == ["files/table.csv"]


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "files/../../x", "", "a\0b"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT])
def test_paths_out_of_the_workspace_are_refused(workspace, path, flags):
    with pytest.raises(InputError, match="not a path inside the workspace"):
        workspace.open(path, flags)


def test_links_lead_nowhere_but_to_files_of_the_workspace(workspace, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (workspace.root / "a").mkdir()
    (workspace.root / "a" / "own.txt").write_text("own")
    (workspace.root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (workspace.root / "in.txt").symlink_to("a/own.txt")
    (workspace.root / "outside").symlink_to(tmp_path)
    (workspace.root / "inside").symlink_to("a")
    (workspace.root / "up.txt").symlink_to("../secret.txt")
    (workspace.root / "a" / "up.txt").symlink_to("../a/./own.txt")
    (workspace.root / "loop").symlink_to("loop")
    for path in ("in.txt", "inside/own.txt", "a/up.txt", "inside/up.txt"):
        assert workspace.read_bytes(path) == b"own"
    for path in ("out.txt", "outside/secret.txt", "up.txt", "loop", "loop/x"):
        with pytest.raises(InputError, match="leads out of the workspace"):
            workspace.read_bytes(path)
    for path in ("out.txt", "in.txt", "outside/new.txt", "inside/new.txt", "up.txt", "loop"):
        with pytest.raises((InputError, FileExistsError)):
            workspace.open(path, os.O_WRONLY | os.O_CREAT)
    assert workspace.list() == ["a/own.txt"]
    assert sorted(os.listdir(tmp_path)) == ["run", "secret.txt"] and sorted(os.listdir(workspace.root / "a")) == [
        "own.txt",
        "up.txt",
    ]


def test_a_missing_file_names_those_that_are_there(workspace):
    with pytest.raises(InputError, match="Files here: none"):
        workspace.read_bytes("photo.png")
    workspace.add(File.from_bytes(b"x", "files/b.txt"))
    workspace.add(File.from_bytes(b"x", "files/a.txt"))
    with pytest.raises(InputError, match=r"no file `photo.png`. Files here: files/a.txt, files/b.txt"):
        workspace.read_bytes("photo.png")


def test_a_folder_a_pipe_and_a_file_in_the_way_are_no_files(workspace):
    workspace.add(File.from_bytes(b"x", "files/a.txt"))
    os.mkfifo(workspace.root / "pipe")
    for path, reason in {
        "files": "no file `files`, it is a folder. Files here: files/a.txt",
        "pipe": "no file `pipe`, it is no regular file",
        "files/a.txt/b": "is a link, or leads out",
        "x" * 300: "cannot be opened",
    }.items():
        with pytest.raises(InputError, match=reason):
            workspace.read_bytes(path)
    with pytest.raises(InputError, match="`files` is a folder"):
        workspace.open("files", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(InputError, match="is a folder"):
        workspace.add(File.from_bytes(b"x", "files"))


def test_a_folder_that_is_swapped_for_a_link_all_the_time_gives_nothing_from_outside(workspace, tmp_path):
    secret, away = tmp_path / "secret", tmp_path / "away"
    secret.mkdir()
    away.mkdir()
    (secret / "a.txt").write_text("planted")
    (workspace.root / "d").mkdir()
    (workspace.root / "d" / "a.txt").write_text("harmless")
    (workspace.root / "link").symlink_to(secret)
    stop = threading.Event()

    def swap():
        libc = ctypes.CDLL(None)
        while not stop.is_set():  # renameat2 with RENAME_EXCHANGE
            libc.renameat2(-100, bytes(workspace.root / "d"), -100, bytes(workspace.root / "link"), 2)

    thread = threading.Thread(target=swap)
    thread.start()
    seen, written = set(), 0
    try:
        for number in range(300):
            with suppress(InputError):
                seen.add(workspace.read_bytes("d/a.txt"))
            with suppress(InputError), open(f"d/new_{number}", "xb", opener=workspace.open):
                written += 1
            workspace.list()
            with suppress(InputError):
                workspace.add(File.from_bytes(b"harmless", "d/added.txt"))
    finally:
        stop.set()
        thread.join()
    assert seen == {b"harmless"} and written
    assert os.listdir(secret) == ["a.txt"] and (secret / "a.txt").read_text() == "planted"


class TestNewPictures:
    def paths(self, workspace):
        return [file.path for file in workspace.new_images()]

    def test_a_picture_is_new_once(self, workspace):
        (workspace.root / "plot.png").write_bytes(png())
        assert self.paths(workspace) == ["plot.png"]
        assert self.paths(workspace) == []

    def test_an_attachment_is_not_new_until_it_changes(self, workspace):
        workspace.add(File.from_bytes(png(), "files/photo.png"))
        assert self.paths(workspace) == []
        target = workspace.root / "files/photo.png"
        target.write_bytes(png("blue"))
        os.utime(target, ns=(1, 1))  # clocks of file systems are coarse
        (file,) = workspace.new_images()
        assert file.path == "files/photo.png" and file.read_bytes() == png("blue")
        assert self.paths(workspace) == []

    def test_the_bytes_are_those_of_that_moment(self, workspace):
        target = workspace.root / "plot.png"
        target.write_bytes(png())
        (file,) = workspace.new_images()
        target.write_bytes(png("blue"))
        assert file.read_bytes() == png()

    def test_pictures_come_in_the_order_in_which_they_were_made(self, workspace):
        for time, name in enumerate(["c.png", "a.png", "b.png"], start=1):
            (workspace.root / name).write_bytes(png())
            os.utime(workspace.root / name, (time, time))
        assert self.paths(workspace) == ["c.png", "a.png", "b.png"]

    @pytest.mark.parametrize("data", [b"", b"words", png()[:50]], ids=["empty", "text", "cut"])
    def test_what_cannot_be_decoded_is_passed_over(self, workspace, data):
        (workspace.root / "bad.png").write_bytes(data)
        (workspace.root / "good.png").write_bytes(png())
        assert self.paths(workspace) == ["good.png"]

    def test_other_files_and_symlinks_are_passed_over(self, workspace, tmp_path):
        (workspace.root / "table.csv").write_text("a")
        (tmp_path / "private.png").write_bytes(png())
        (workspace.root / "link.png").symlink_to(tmp_path / "private.png")
        assert self.paths(workspace) == []

    def test_pictures_in_folders_of_any_depth(self, workspace):
        (workspace.root / "a/b/c").mkdir(parents=True)
        (workspace.root / "a/b/c/deep.png").write_bytes(png())
        assert self.paths(workspace) == ["a/b/c/deep.png"]

    def test_a_saved_picture_has_a_path_of_its_own(self, workspace):
        paths = [workspace.save_image(Image.new("RGB", (4, 4), c)) for c in ("red", "blue")]
        assert len(set(paths)) == 2 and set(paths) <= set(workspace.list())


class TestActivation:
    def test_relative_paths_lead_into_the_workspace(self, workspace):
        before = os.getcwd()
        with workspace.activate():
            with open("made.txt", "w") as stream:
                stream.write("x")
        assert os.getcwd() == before and workspace.list() == ["made.txt"]

    def test_the_working_directory_is_restored_after_an_error(self, workspace):
        before = os.getcwd()
        with pytest.raises(KeyError), workspace.activate():
            raise KeyError
        assert os.getcwd() == before

    def test_workspaces_nest(self, workspace, tmp_path):
        before = os.getcwd()
        inner = Workspace(tmp_path / "inner")
        with workspace.activate():
            with inner.activate():
                assert os.getcwd() == str(inner.root)
                with inner.activate():
                    assert os.getcwd() == str(inner.root)
                assert os.getcwd() == str(inner.root)
            assert os.getcwd() == str(workspace.root)
        assert os.getcwd() == before

    def test_the_same_workspace_from_another_thread(self, workspace):
        seen = []

        def work():
            with workspace.activate():
                seen.append(os.getcwd())

        with workspace.activate():
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(10)
        assert seen == [str(workspace.root)]

    @pytest.mark.parametrize("is_allowed", [True, False])
    def test_two_workspaces_at_a_time(self, workspace, tmp_path, is_allowed):
        """Each thread has its own directory; where the system does not allow that, one waits until the other lets it
        in."""
        other, before, seen = Workspace(tmp_path / "other"), os.getcwd(), []
        inside, done = threading.Event(), threading.Event()

        def first():
            workspaces._thread.is_own = None if is_allowed else False
            with workspace.activate():
                seen.append(os.getcwd())
                inside.set()
                with workspace.suspend():
                    seen.append(os.getcwd() if is_allowed else before)
                    done.wait(10)
                seen.append(os.getcwd())

        def second():
            workspaces._thread.is_own = None if is_allowed else False
            inside.wait(10)
            with other.activate():
                seen.append(os.getcwd())
            done.set()

        in_threads([first, second])
        roots = str(workspace.root), str(other.root)
        assert sorted(seen) == sorted([roots[0], before, roots[1], roots[0]]) and os.getcwd() == before

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_a_name_is_found_in_either_form(self, workspace, form):
        name = unicodedata.normalize(form, "Caf\u00e9 \u0130.txt")
        workspace.add(File.from_bytes(b"42", f"files/{name}"))
        assert workspace.list() == [f"files/{name}"]
        for other in ("NFC", "NFD"):
            assert workspace.read_bytes(unicodedata.normalize(other, f"files/{name}")) == b"42"
            assert (workspace.root / unicodedata.normalize(other, f"files/{name}")).read_bytes() == b"42"


def test_a_temporary_workspace_goes_when_it_is_closed():
    with Workspace() as workspace:
        (workspace.root / "a.txt").write_text("a")
    assert not workspace.root.exists()


def test_outputs_are_copied(workspace, tmp_path):
    assert workspace.copy_outputs(tmp_path / "none") == []
    workspace.add(File.from_bytes(b"x", "files/in.txt"))
    workspace.add(File.from_bytes(b"y", "outputs/out.txt"))
    assert workspace.copy_outputs(tmp_path / "copy") == ["out.txt"]
    assert (tmp_path / "copy/out.txt").read_bytes() == b"y"
