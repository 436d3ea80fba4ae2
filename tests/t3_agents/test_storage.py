"""What stays on disk when writing is interrupted, refused or killed."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from t3_agents.errors import InputError, RunFolderError
from t3_agents.storage import (
    LOCK_FILE,
    SETTINGS_FILE,
    BlobStore,
    RunFolder,
    Shard,
    read_rows,
    scratch_folder,
    sha256_of,
    write_atomic,
)


def start(code, *arguments):
    """A process of its own that runs `code` and then says what it says on its standard output."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class TestWriteAtomic:
    def test_content_replaces_content(self, tmp_path):
        target = tmp_path / "new" / "a.txt"
        write_atomic(target, "grün")
        write_atomic(target, b"second")
        assert target.read_bytes() == b"second" and list(target.parent.iterdir()) == [target]
        assert target.stat().st_mode & 0o777 == 0o644

    def test_nothing_is_left_when_writing_fails(self, tmp_path):
        target = tmp_path / "a.txt"
        write_atomic(target, "first")
        with pytest.raises(TypeError):
            write_atomic(target, 7)
        assert target.read_text() == "first" and list(tmp_path.iterdir()) == [target]

    def test_nothing_is_left_on_a_full_disk(self, tmp_path):
        # A limit on the size of files fails like a full disk does: in the middle of a write.
        code = """if True:
            import resource, sys
            from t3_agents.storage import write_atomic
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            try:
                write_atomic(sys.argv[1], b"x" * 5000)
            except OSError as error:
                print(type(error).__name__)
        """
        write_atomic(tmp_path / "a.txt", "first")
        output, errors = start(code, tmp_path / "a.txt").communicate(timeout=60)
        assert output == "OSError\n", errors
        assert (tmp_path / "a.txt").read_text() == "first"
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


class TestLeftovers:
    WRITER = """if True:
        import sys, tempfile
        from pathlib import Path
        from t3_agents import storage
        tempfile.tempdir = sys.argv[1]
        kept = storage.scratch_folder(), storage.scratch_folder(sys.argv[1], ".build-")

        class Slow(str):
            def encode(self):
                print("writing", flush=True)
                return sys.stdin.read().encode() or b"x"

        storage.write_atomic(Path(sys.argv[1], "run", "blobs", "a"), Slow())
    """

    def test_those_of_the_dead_are_swept_and_those_of_the_living_stay(self, tmp_path):
        left = set()
        for end in (subprocess.Popen.kill, lambda process: None):
            process = subprocess.Popen(
                [sys.executable, "-c", self.WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            process.stdout.readline()
            found = {path for path in tmp_path.rglob("*") if re.search("scratch-|build-|partial", path.name)}
            assert len(found - left) == 3
            end(process)
            if not left:
                process.wait()
                left = found
        try:
            scratch_folder(tmp_path, ".build-").cleanup()
            scratch_folder(tmp_path).cleanup()
            (tmp_path / "run" / LOCK_FILE).touch()
            (tmp_path / "run" / SETTINGS_FILE).write_text("{}")
            RunFolder(tmp_path / "run", {}).close()
            assert not any(path.exists() for path in left) and all(path.exists() for path in found - left)
        finally:
            process.communicate(b"")
        assert process.returncode == 0 and (tmp_path / "run/blobs/a").read_bytes() == b"x"
        assert not [path for path in tmp_path.rglob("*") if re.search("scratch-|build-|partial", path.name)]


class TestBlobs:
    def test_a_blob_is_found_by_its_digest(self, tmp_path):
        blobs = BlobStore(tmp_path)
        digest = blobs.put(b"data")
        assert digest == sha256_of(b"data") and blobs.get(digest) == b"data"
        assert blobs.path(digest) == tmp_path / digest[:2] / digest

    def test_a_blob_is_written_once(self, tmp_path):
        blobs = BlobStore(tmp_path)
        before = blobs.path(blobs.put(b"data")).stat()
        assert blobs.path(blobs.put(b"data")).stat().st_ino == before.st_ino

    def test_a_missing_blob_is_named(self, tmp_path):
        with pytest.raises(InputError, match=sha256_of(b"x")[:12]):
            BlobStore(tmp_path).get(sha256_of(b"x"))

    @pytest.mark.parametrize("digest", ["", "abc", "../../../etc/passwd", "A" * 64, "/" * 64])
    def test_what_is_no_digest_leads_nowhere(self, tmp_path, digest):
        with pytest.raises(InputError, match="not a SHA-256 digest"):
            BlobStore(tmp_path).get(digest)


class TestShard:
    def test_rows_are_on_disk_when_append_returns(self, tmp_path):
        with Shard(tmp_path / "deep" / "rows.jsonl") as shard:
            for row in ({"a": 1}, {"text": "grün\n"}):
                shard.append(row)
                assert list(read_rows(shard.path))[-1] == row
        with Shard(shard.path) as shard:
            assert shard.rows == [{"a": 1}, {"text": "grün\n"}]

    @pytest.mark.parametrize("torn", ['{"a": 2', '{"a": 2}', "\x00\x00", "{"])
    def test_a_torn_last_line_is_dropped(self, tmp_path, torn):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 1}\n' + torn)
        assert list(read_rows(path)) == [{"a": 1}]
        with Shard(path) as shard:
            assert shard.rows == [{"a": 1}]
            shard.append({"a": 3})
        assert path.read_text() == '{"a": 1}\n{"a": 3}\n'

    def test_a_shard_that_is_one_torn_line(self, tmp_path):
        (tmp_path / "rows.jsonl").write_text('{"a"')
        with Shard(tmp_path / "rows.jsonl") as shard:
            assert shard.rows == []
        assert (tmp_path / "rows.jsonl").read_bytes() == b""

    @pytest.mark.parametrize(
        ("line", "reason"), [('{"a": ', "not JSON"), ("[1]", "not a JSON object"), ("", "not JSON")]
    )
    def test_a_corrupt_line_in_the_middle_is_named(self, tmp_path, line, reason):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 1}\n' + line + '\n{"a": 3}\n')
        before = path.read_bytes()
        with pytest.raises(InputError, match=f"Line 2 of rows.jsonl is {reason}") as caught:
            Shard(path)
        assert path.read_bytes() == before
        path.write_text('{"a": 1}\n')
        with Shard(path) as shard:  # while the error is still held
            assert caught and shard.rows == [{"a": 1}]

    def test_a_second_writer_is_refused(self, tmp_path):
        with Shard(tmp_path / "rows.jsonl") as first:
            first.append({"a": 1})
            with pytest.raises(RunFolderError, match="Another process is writing to rows.jsonl"):
                Shard(tmp_path / "rows.jsonl")
            first.append({"a": 2})
        with Shard(tmp_path / "rows.jsonl") as second:
            assert second.rows == [{"a": 1}, {"a": 2}]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
    def test_a_row_that_is_not_json_leaves_no_trace(self, tmp_path, value):
        with Shard(tmp_path / "rows.jsonl") as shard:
            shard.append({"a": 1})
            with pytest.raises((TypeError, ValueError)):
                shard.append({"a": value})
            shard.append({"a": 2})
            assert shard.rows == list(read_rows(shard.path)) == [{"a": 1}, {"a": 2}]

    def test_a_full_disk_leaves_whole_rows(self, tmp_path):
        code = """if True:
            import resource, sys
            from t3_agents.storage import Shard
            shard = Shard(sys.argv[1])
            shard.append({"number": 0})
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
            try:
                shard.append({"number": 1, "text": "x" * 5000})
            except OSError as error:
                print(type(error).__name__, len(shard.rows))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            shard.append({"number": 2})
            shard.close()
        """
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
        output, errors = start(code, tmp_path / "rows.jsonl").communicate(timeout=60)
        assert output == "OSError 1\n", errors
        assert list(read_rows(tmp_path / "rows.jsonl")) == [{"number": 0}, {"number": 2}]

    def test_what_a_killed_writer_had_just_forked_is_waited_for(self, tmp_path):
        code = """if True:
            import os, signal, sys, time
            from t3_agents.storage import RunFolder, Shard
            folder = RunFolder(sys.argv[1], {})
            shard = Shard(sys.argv[1] + "/rows.jsonl")
            shard.append({"number": 1})
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1)
        """
        process = start(code, tmp_path / "run")
        assert process.wait(timeout=60) == -signal.SIGKILL
        with RunFolder(tmp_path / "run", {}), Shard(tmp_path / "run" / "rows.jsonl") as shard:
            assert shard.rows == [{"number": 1}]
        process.communicate()

    def test_a_killed_writer_loses_at_most_the_row_in_flight(self, tmp_path):
        code = """if True:
            import sys
            from t3_agents.storage import Shard
            shard = Shard(sys.argv[1])
            for number in range(len(shard.rows), 10**6):
                shard.append({"number": number, "text": "x" * 3000})
                print(number, flush=True)
        """
        path, done = tmp_path / "rows.jsonl", 0
        for _ in range(3):
            process = start(code, path)
            try:
                first = int(process.stdout.readline())
                assert first == done
                time.sleep(0.3)
            finally:
                process.send_signal(signal.SIGKILL)
            # What the process had said is complete, but for a last line without its end.
            said = [first, *map(int, process.communicate()[0].split("\n")[:-1])]
            done = said[-1] + 1
            rows = list(read_rows(path))
            assert [row["number"] for row in rows] == list(range(len(rows)))
            assert done <= len(rows) <= done + 1
            done = len(rows)


SCRATCH = """if True:
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from t3_agents.storage import scratch_folder

    together = threading.Barrier(8)

    def work(number):
        together.wait()  # all of them are the first of the process
        with scratch_folder() as one, scratch_folder(sys.argv[1], ".work-") as other:
            for _ in range(50):
                Path(one, "file").write_text("words")
                Path(other, "file").write_text("words")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
"""


def test_nobody_deletes_the_scratch_folder_of_another(tmp_path):
    command, places = [sys.executable, "-c", SCRATCH, str(tmp_path)], {"TMPDIR": str(tmp_path)}
    workers = [subprocess.Popen(command, env=os.environ | places, stderr=subprocess.PIPE) for _ in range(6)]
    for worker in workers:
        error = worker.communicate()[1]
        assert worker.returncode == 0, error.decode()
    assert list(tmp_path.iterdir()) == []


class TestRunFolder:
    def test_the_same_settings_open_it_again(self, tmp_path):
        settings = {"seed": 1, "files": ("a", "b"), "limit": None}
        with RunFolder(tmp_path / "run", settings) as folder:
            (folder.path / "rows.jsonl").write_text("")
        with RunFolder(tmp_path / "run", settings):
            assert json.loads((tmp_path / "run" / SETTINGS_FILE).read_text())["files"] == ["a", "b"]

    @pytest.mark.parametrize("settings", [{"seed": 2}, {}, {"seed": 1, "more": True}])
    def test_other_settings_are_refused_by_name(self, tmp_path, settings):
        with RunFolder(tmp_path / "run", {"seed": 1}) as folder:
            (folder.path / "rows.jsonl").write_text("{}\n")
        with pytest.raises(RunFolderError, match=r"other settings \((seed|more) is"):
            RunFolder(tmp_path / "run", settings)
        with RunFolder(tmp_path / "run", {"seed": 1}):
            pass

    def test_a_run_that_failed_before_it_did_anything_may_have_other_settings(self, tmp_path):
        with RunFolder(tmp_path / "run", {"seed": 1}) as folder, Shard(folder.path / "rows.jsonl") as shard:
            (folder.path / ".lengths.json").write_text("{}")
        with RunFolder(tmp_path / "run", {"seed": 2}), shard:
            assert json.loads((tmp_path / "run" / SETTINGS_FILE).read_text()) == {"seed": 2}

    def test_settings_of_another_program_are_left_alone(self, tmp_path):
        (tmp_path / SETTINGS_FILE).write_text('{"font": "large"}')
        with pytest.raises(RunFolderError, match="other settings"):
            RunFolder(tmp_path, {"seed": 1})

    def test_a_folder_with_other_files_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(RunFolderError, match="holds no run of this command"):
            RunFolder(tmp_path, {})
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "run").write_text("")
        with pytest.raises(RunFolderError, match="is a file"):
            RunFolder(tmp_path / "run", {})

    @pytest.mark.parametrize("text", ["", "{", "[]", "null"])
    def test_unreadable_settings_are_refused(self, tmp_path, text):
        (tmp_path / SETTINGS_FILE).write_text(text)
        with pytest.raises(RunFolderError, match="not readable as settings"):
            RunFolder(tmp_path, {})

    @pytest.mark.parametrize("left", [[LOCK_FILE], [LOCK_FILE, f".{SETTINGS_FILE}.k3j2"]])
    def test_a_folder_whose_first_process_was_killed_at_once_can_be_used(self, tmp_path, left):
        for name in left:
            (tmp_path / name).write_text("")
        with RunFolder(tmp_path, {"seed": 1}):
            assert json.loads((tmp_path / SETTINGS_FILE).read_text()) == {"seed": 1}

    def test_one_process_at_a_time(self, tmp_path):
        code = """if True:
            import sys
            from t3_agents.storage import RunFolder
            with RunFolder(sys.argv[1], {"seed": 1}):
                print("ready", flush=True)
                sys.stdin.read()
        """
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(RunFolderError, match="Another process is working in"):
                RunFolder(tmp_path / "run", {"seed": 1})
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        with RunFolder(tmp_path / "run", {"seed": 1}):  # a killed process holds no lock
            pass
