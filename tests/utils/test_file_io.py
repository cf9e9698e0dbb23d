import http.server
import os
import stat
import threading

import pytest

from retinue.utils import download as download_module
from retinue.utils.download import cache_path, cached_download, get_cache_dir
from retinue.utils.file_io import (
    Detectron2Handler,
    NativePathHandler,
    PathHandler,
    PathManager,
    PathManagerBase,
    atomic_write,
    file_lock,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("RETINUE_CACHE", str(folder))
    return folder


def read(path, mode="rb", manager=PathManager):
    with manager.open(path, mode) as file:
        return file.read()


class _Handler(http.server.BaseHTTPRequestHandler):
    content = bytes(range(256)) * 40
    etag = '"v1"'
    cut_after = None  # bytes after which the connection breaks, once
    requests = []  # noqa: RUF012

    def do_GET(self):  # the base class's name
        cls = type(self)
        cls.requests.append(dict(self.headers))
        if self.path != "/models/a.bin":
            self.send_error(404)
            return
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == cls.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(cls.content) - start))
        self.send_header("ETag", cls.etag)
        self.end_headers()
        end, cls.cut_after = cls.cut_after, None
        self.wfile.write(cls.content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_Handler, "requests", [])
    monkeypatch.setattr(_Handler, "cut_after", None)
    monkeypatch.setattr(_Handler, "etag", '"v1"')
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_atomic_write_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"

    with pytest.raises(RuntimeError, match="crash"), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise RuntimeError("crash")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_atomic_write_of_text_is_utf8(tmp_path):
    with atomic_write(str(tmp_path / "a.txt"), "w") as file:
        file.write("é")
    assert (tmp_path / "a.txt").read_bytes() == "é".encode()


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_atomic_write_respects_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_local_files_through_the_whole_interface(tmp_path, caplog):
    a, b, c = (str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt"))
    with PathManager.open(a, "w") as file:
        file.write("text")
    assert read("file://" + a, "r") == "text"
    assert PathManager.get_local_path("file://" + a) == a
    assert PathManager.copy(a, b)
    assert PathManager.copy_from_local(a, b, overwrite=True)
    assert not PathManager.copy(a, b)
    assert not PathManager.mv(a, b)
    assert not PathManager.symlink(a, b)
    assert "b.txt is already there; pass overwrite=True" in caplog.text
    with pytest.raises(AssertionError, match=r"b\.txt is already there"):
        PathManager.copy_from_local(a, b)
    assert PathManager.mv(b, c)
    assert PathManager.exists(c)
    assert PathManager.isfile(c)
    assert not PathManager.exists(b)
    PathManager.mkdirs(str(tmp_path / "x" / "y"))
    PathManager.mkdirs("")  # the folder of a bare file name
    assert PathManager.isdir(tmp_path / "x" / "y")
    assert sorted(PathManager.ls(tmp_path)) == ["a.txt", "c.txt", "x"]
    PathManager.rm(c)
    assert not PathManager.isfile(c)
    if os.name == "posix":
        assert PathManager.symlink(a, c)
        assert os.readlink(c) == a
        assert not PathManager.symlink(str(tmp_path / "nowhere"), b)
        assert not os.path.lexists(b)
        assert "nowhere is not there; no link" in caplog.text


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="NativePathHandler: unknown options sped"):
        NativePathHandler()._exists("x", sped=1)
    with pytest.raises(ValueError, match="NativePathHandler: unknown options sped"):
        PathManager.open(__file__, sped=1)
    manager = PathManagerBase()
    manager.set_strict_kwargs_checking(False)
    assert not manager.exists("/nowhere", sped=1)
    with manager.open(__file__, sped=1, newline="\n") as file:
        assert file.readline().startswith("import")


def test_what_is_no_handler_is_refused():
    with pytest.raises(AssertionError, match="expected a PathHandler; got 3"):
        PathManagerBase().register_handler(3)


def test_memory_file_system_of_fsspec(caplog):
    manager = PathManagerBase()
    with manager.open("memory://room/a.txt", "w") as file:
        file.write("é")
    assert read("memory://room/a.txt", manager=manager) == "é".encode()
    assert manager.ls("memory://room") == ["a.txt"]
    assert manager.copy("memory://room/a.txt", "memory://room/b.txt")
    assert manager.mv("memory://room/b.txt", "memory://room/c.txt")
    assert manager.isfile("memory://room/c.txt")
    assert manager.isdir("memory://room")
    with open(manager.get_local_path("memory://room/c.txt"), encoding="utf-8") as file:
        assert file.read() == "é"
    manager.mkdirs("memory://other")
    manager.rm("memory://room/c.txt")
    assert not manager.exists("memory://room/c.txt")
    assert not manager.copy("memory://room/a.txt", "memory://room/a.txt")
    assert "memory://room/a.txt is already there" in caplog.text
    with pytest.raises(FileExistsError, match="already there"):
        manager.copy_from_local(__file__, "memory://room/a.txt")


def test_atomic_write_to_an_address():
    with atomic_write("memory://room/whole.bin") as file:
        file.write(b"abc")
    assert read("memory://room/whole.bin") == b"abc"


def test_an_unknown_scheme_is_named():
    with pytest.raises(ValueError, match="nosuch://x: no handler for this prefix"):
        PathManager.open("nosuch://x")
    with pytest.raises(FileNotFoundError, match="no handler for this prefix"):
        PathManager.open("nosuch://x")
    assert not PathManager.exists("nosuch://x")
    assert not PathManager.isfile("nosuch://x")
    assert not PathManager.isdir("nosuch://x")


class _Letters(PathHandler):
    def _get_supported_prefixes(self):
        return ["letters://"]

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        return iter(path.removeprefix("letters://"))


class _MoreLetters(_Letters):
    def _get_supported_prefixes(self):
        return ["letters://big/"]

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        return iter("BIG")


def test_own_handlers_and_the_longest_prefix():
    manager = PathManagerBase([_Letters(), _MoreLetters()])
    assert list(manager.open("letters://ab")) == ["a", "b"]
    assert list(manager.open("letters://big/x")) == ["B", "I", "G"]
    with pytest.raises(KeyError, match="letters://"):
        manager.register_handler(_Letters(), allow_override=False)
    for name in ("exists", "isfile", "isdir", "ls", "mkdirs", "rm", "get_local_path"):
        with pytest.raises(NotImplementedError, match=f"_Letters does not support {name}"):
            getattr(manager, name)("letters://ab")
    for name in ("copy", "mv"):
        with pytest.raises(NotImplementedError, match=f"_Letters does not support {name}"):
            getattr(manager, name)("letters://ab", "letters://b")
    with pytest.raises(ValueError, match="other storage"):
        manager.mv("letters://ab", "/x")
    with pytest.raises(NotImplementedError, match="copy_from_local"):
        manager.copy_from_local("/x", "letters://ab")
    with pytest.raises(NotImplementedError, match="symlink"):
        manager.symlink("letters://ab", "letters://c")
    with pytest.raises(NotImplementedError, match="registered"):
        manager.register_handler(PathHandler())


def test_download_is_cached(server, cache):
    url = f"{server}/models/a.bin"
    path = PathManager.get_local_path(url)
    assert path.startswith(str(cache))
    with open(path, "rb") as file:
        assert file.read() == _Handler.content
    assert read(url)[:2] == b"\x00\x01"
    assert PathManager.exists(url)
    assert not PathManager.isdir(url)
    assert len(_Handler.requests) == 1
    PathManager.get_local_path(url, force=True)
    assert len(_Handler.requests) == 2
    with pytest.raises(AssertionError, match="can only be read; got mode 'w'"):
        PathManager.open(url, "w")


def test_a_broken_download_goes_on_where_it_stopped(server):
    _Handler.cut_after = 1000
    path = cached_download(f"{server}/models/a.bin")
    with open(path, "rb") as file:
        assert file.read() == _Handler.content
    assert "Range" not in _Handler.requests[0]
    assert _Handler.requests[1]["Range"] == "bytes=1000-"
    assert not os.path.exists(path + ".part")


def test_a_part_of_another_version_is_thrown_away(server):
    url = f"{server}/models/a.bin"
    path = cache_path(url)
    os.makedirs(os.path.dirname(path))
    with open(path + ".part", "wb") as file:
        file.write(b"other")
    with open(path + ".part.tag", "w") as file:
        file.write('"v0"')
    with open(cached_download(url), "rb") as file:
        assert file.read() == _Handler.content


def test_what_is_not_there_says_so(server):
    with pytest.raises(OSError, match=r"b\.bin: the server answered 404"):
        cached_download(f"{server}/models/b.bin")
    assert not PathManager.exists(f"{server}/models/b.bin")


def test_no_server_says_what_happened(monkeypatch):
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match="download failed 3 times"):
        cached_download("http://127.0.0.1:9/x.bin")


def test_detectron2_addresses_use_its_cache_layout(cache):
    """The file lies where iopath puts it, so that earlier downloads are found."""
    local = cache / "detectron2" / "ImageNetPretrained" / "R-50.pkl"
    local.parent.mkdir(parents=True)
    local.write_bytes(b"weights")
    name = "detectron2://ImageNetPretrained/R-50.pkl"
    assert PathManager.get_local_path(name) == str(local)
    assert read(name) == b"weights"
    assert Detectron2Handler.S3_DETECTRON2_PREFIX.startswith("https://dl.fbaipublicfiles.com/")


def test_cache_names_are_short_and_differ():
    one, two = (cache_path(f"http://h/x/{'a' * 300}?v={i}") for i in (1, 2))
    assert len(os.path.basename(one)) <= 250
    assert one != two
    assert "/../" not in cache_path("http://h/../../etc/passwd")


def test_cache_folder_that_cannot_be_written(tmp_path, caplog):
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert get_cache_dir(str(blocker / "below")).endswith("retinue_cache")
    assert "not writable" in caplog.text


def test_file_lock_lets_one_in_at_a_time(tmp_path):
    path, inside, most = str(tmp_path / "x"), [], []

    def work():
        with file_lock(path):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
