"""Downloads from a server that misbehaves: the cache never holds a wrong file."""

import hashlib
import http.server
import io
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from retinue.utils import download as module
from retinue.utils.cache import cache_path
from retinue.utils.download import (
    DownloadError,
    OfflineError,
    WrongContentError,
    download,
    mirrors_of,
)
from retinue.utils.file_io import Detectron2Handler, PathManager, PathManagerBase
from retinue.utils.whole_file import describe_damage


def archive():
    """A whole zip file, as ``torch.save`` writes them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr(zipfile.ZipInfo("a/data.pkl"), bytes(range(256)) * 300)  # of no time of day
    return file.getvalue()


CONTENT = archive()
sleep = time.sleep
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by the first word of the path; ``requests`` keeps what was asked."""

    protocol_version = "HTTP/1.1"
    requests = []  # noqa: RUF012
    lock = threading.Lock()

    def do_GET(self):
        with self.lock:
            earlier = sum(path == self.path for path, _ in self.requests)
            self.requests.append((self.path, dict(self.headers)))
        getattr(self, self.path.split("/")[1])(earlier)

    def head(self, length, code=200, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": length, "ETag": '"1"', **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def start(self):
        wanted = self.headers.get("Range", "")
        return int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0

    def good(self, earlier):
        self.head(len(CONTENT))
        self.wfile.write(CONTENT)

    def cuts(self, earlier):
        """Sends 20,000 bytes at a time."""
        at = self.start()
        rest = f"bytes {at}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.head(len(CONTENT) - at, 206 if at else 200, Content_Range=rest if at else None)
        self.wfile.write(CONTENT[at : at + 20_000])

    def stalls(self, earlier):
        self.head(len(CONTENT))
        self.wfile.write(CONTENT[:10])
        self.wfile.flush()
        sleep(1.0)

    def trickles(self, earlier):
        self.head(len(CONTENT))
        for _ in range(40):
            self.wfile.write(b"P")
            self.wfile.flush()
            sleep(0.05)

    def short(self, earlier):
        """Says less than it has, which looks whole to a client."""
        self.head(len(CONTENT) - 100)
        self.wfile.write(CONTENT[:-100])

    def long(self, earlier):
        """Says more than it has."""
        self.head(len(CONTENT) + 100)
        self.wfile.write(CONTENT)

    def unsaid(self, earlier):
        """Says no length and breaks off."""
        self.head(None)
        self.wfile.write(CONTENT[:-100])

    def wrong(self, earlier):
        """Other bytes of the same length."""
        self.head(len(CONTENT))
        self.wfile.write(bytes(reversed(CONTENT)))

    def mended(self, earlier):
        """Goes on with other bytes under the same mark; starts anew rightly."""
        at = self.start()
        if at:
            self.head(len(CONTENT) - at, 206, Content_Range=f"bytes {at}-/{len(CONTENT)}")
            self.wfile.write(b"x" * (len(CONTENT) - at))
        elif earlier == 0:
            self.head(len(CONTENT))
            self.wfile.write(CONTENT[:20_000])
        else:
            self.good(earlier)

    def elsewhere(self, earlier):
        """Goes on from another place than asked for, then sends the whole."""
        if earlier == 0:
            self.head(len(CONTENT))
            self.wfile.write(CONTENT[:20_000])
        elif self.start():
            self.head(10, 206, Content_Range="bytes 5-14/99")
            self.wfile.write(CONTENT[5:15])
        else:
            self.good(earlier)

    def page(self, earlier):
        self.head(30)
        self.wfile.write(b"<html>Please sign in.</html>  ")

    def packed(self, earlier):
        self.head(len(CONTENT), Content_Encoding="gzip")
        self.wfile.write(CONTENT)

    def busy(self, earlier):
        if earlier < 2:
            self.head(0, 503)
        else:
            self.good(earlier)

    def proxy(self, earlier):
        self.head(0, 407)

    def slow(self, earlier):
        self.head(len(CONTENT))
        for at in range(0, len(CONTENT), 4000):
            self.wfile.write(CONTENT[at : at + 4000])
            sleep(0.01)

    def log_message(self, *args):
        pass


class QuietServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that hang up are what is tested


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("RETINUE_OFFLINE", "HF_HUB_OFFLINE", "RETINUE_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "requests", [])
    httpd = QuietServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: sleep(0.001))


def kept(cache):
    """Names of the files in the cache, but for what the cache keeps beside them."""
    found = [path.name for path in cache.rglob("*") if path.is_file()]
    return [name for name in found if not name.endswith((".lock", ".part", ".tag", ".meta"))]


def test_a_file_is_checked_and_remembered(server, cache):
    path = download(f"{server}/good/a.pth", sha256=SHA256, size=len(CONTENT))
    assert Path(path).read_bytes() == CONTENT
    assert json.loads(Path(path + ".meta").read_text())["sha256"] == SHA256
    assert download(f"{server}/good/a.pth", sha256=SHA256[:8].upper()) == path
    assert len(Server.requests) == 1

    Path(path).write_bytes(CONTENT[:-1])  # somebody cut it: it is fetched anew
    assert Path(download(f"{server}/good/a.pth")).read_bytes() == CONTENT
    assert len(Server.requests) == 2


def test_a_folder_or_a_path_can_be_named(server, tmp_path):
    assert download(f"{server}/good/a.pth", tmp_path) == str(tmp_path / "a.pth")
    assert download(f"{server}/good/a.pth", tmp_path / "b.pth") == str(tmp_path / "b.pth")
    with pytest.raises(ValueError, match="8 to 64 hex digits; got 'xyz'"):
        download(f"{server}/good/a.pth", sha256="xyz")


@pytest.mark.usefixtures("quick")
def test_a_connection_that_is_cut_again_and_again_goes_on(server):
    path = download(f"{server}/cuts/a.pth", sha256=SHA256)
    assert Path(path).read_bytes() == CONTENT
    assert [h.get("Range") for _, h in Server.requests[:3]] == [
        None,
        "bytes=20000-",
        "bytes=40000-",
    ]
    assert not Path(path + ".part").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("stalls", DownloadError, "timed out"),
        ("trickles", DownloadError, "bytes came in 0 seconds|timed out"),
        ("short", WrongContentError, "its end is missing; nothing is kept"),
        ("long", DownloadError, "the connection ended after|sent more"),
        ("unsaid", WrongContentError, "its end is missing"),
        ("wrong", WrongContentError, f"expected SHA-256 {SHA256[:12]}"),
        ("page", WrongContentError, "it is a web page; is it the login page of a proxy"),
        ("packed", DownloadError, "encoded as 'gzip'"),
        ("proxy", DownloadError, "answered 407 .*HTTPS_PROXY"),
    ],
)
def test_a_wrong_file_is_never_kept(server, cache, kind, error, said):
    sha256 = SHA256[:12] if kind == "wrong" else None
    with pytest.raises(error, match=said):
        download(f"{server}/{kind}/a.pth", timeout=0.2, sha256=sha256)
    assert kept(cache) == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["mended", "elsewhere", "busy"])
def test_what_goes_wrong_once_is_mended(server, kind):
    path = download(f"{server}/{kind}/a.pth", sha256=SHA256)
    assert Path(path).read_bytes() == CONTENT


def test_a_file_that_is_there_stays_when_a_new_one_is_wrong(server, cache):
    path = Path(cache_path(f"{server}/page/a.pth"))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with pytest.raises(WrongContentError, match="web page"):
        download(f"{server}/page/a.pth", force=True)
    assert path.read_bytes() == CONTENT


@pytest.mark.slow
def test_two_processes_end_with_one_good_copy(server, cache):
    program = "import sys; from retinue.utils.download import download; download(sys.argv[1])"
    command = [sys.executable, "-c", program, f"{server}/slow/a.pth"]
    processes = [subprocess.Popen(command, env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert kept(cache) == ["a.pth"]
    assert Path(cache_path(f"{server}/slow/a.pth")).read_bytes() == CONTENT
    assert len(Server.requests) == 1


def test_offline_mode(server, monkeypatch):
    url = f"{server}/good/a.pth"
    monkeypatch.setenv("RETINUE_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"not in the cache, and downloads are off.*put the fi"):
        download(url)
    with pytest.raises(OfflineError, match="downloads are off"):
        PathManager.get_local_path("s3://bucket/x.pth")
    monkeypatch.setenv("RETINUE_OFFLINE", "0")
    path = download(url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    assert download(url) == path


def test_mirrors_are_tried_first(server, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(Detectron2Handler, "S3_DETECTRON2_PREFIX", f"{server}/proxy/")
    mirror = tmp_path / "mirror"
    (mirror / "sub").mkdir(parents=True)
    (mirror / "sub" / "a.pth").write_bytes(CONTENT)
    monkeypatch.setenv("RETINUE_MIRRORS", f"{tmp_path}/absent detectron2://={mirror}")
    assert mirrors_of("detectron2://x") == [f"{tmp_path}/absent/x", f"{mirror}/x"]

    assert Path(PathManager.get_local_path("detectron2://sub/a.pth")).read_bytes() == CONTENT
    assert Server.requests == []
    with pytest.raises(DownloadError, match=r"absent(.|\n)*answered 407"):
        PathManager.get_local_path("detectron2://sub/b.pth")

    monkeypatch.delenv("RETINUE_MIRRORS")
    manager = PathManagerBase([Detectron2Handler(mirrors=[f"{server}/good"])])
    path = manager.get_local_path("detectron2://c.pth")
    assert Path(path).read_bytes() == CONTENT
    assert [asked for asked, _ in Server.requests[-1:]] == ["/good/c.pth"]
    published = f"{module.DETECTRON2}c.pth"
    assert manager.published_mirrors_of(published) == [f"{server}/good/c.pth"]
    assert manager.published_mirrors_of("https://else.example/c.pth") == []
    assert PathManagerBase().published_mirrors_of(published) == []


def test_the_proxy_is_named_without_its_password(monkeypatch):
    monkeypatch.setattr(
        urllib.request, "getproxies", lambda: {"https": "http://me:secret@proxy.example:3128"}
    )
    said = module._proxy_advice()
    assert "http://***@proxy.example:3128" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("url", "hashes"),
    [
        ("https://download.pytorch.org/models/resnet50-0676ba61.pth", {"sha256": "0676ba61"}),
        ("https://elsewhere.org/resnet50-0676ba61.pth", {}),
        (f"{module.DETECTRON2}COCO-Detection/a/1/model_final_b275ba.pkl", {"md5": "b275ba"}),
        (f"{module.DETECTRON2}LVISv0.5-InstanceSegmentation/a/1/model_final_571f7c.pkl",
         {"md5": "571f7c"}),
        (f"{module.DETECTRON2}new_baselines/a/1/model_final_bb69de.pkl", {}),
        ("https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl", {}),
    ],
)  # fmt: skip
def test_some_files_are_named_by_their_hash(url, hashes):
    assert module._hashes_in_name(url) == hashes


def test_a_mirror_of_the_zoo_is_checked_by_the_name(tmp_path, monkeypatch, quick):
    content = CONTENT + b"."  # as a pickle ends
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()[:6]
    mirror = tmp_path / "mirror"
    monkeypatch.setenv("RETINUE_MIRRORS", str(mirror))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there
    (mirror / "COCO-Detection").mkdir(parents=True)
    for digits in (md5, "000000"):
        (mirror / "COCO-Detection" / f"model_final_{digits}.pkl").write_bytes(content)

    right, wrong = (f"COCO-Detection/model_final_{digits}.pkl" for digits in (md5, "000000"))
    assert mirrors_of(module.DETECTRON2 + right) == [str(mirror / right)]
    assert Path(PathManager.get_local_path(f"detectron2://{right}")).read_bytes() == content
    with pytest.raises(DownloadError, match=f"expected MD5 000000; got {md5}.*; https://dl.fb"):
        PathManager.get_local_path(f"detectron2://{wrong}")
    assert not Path(cache_path(module.DETECTRON2 + wrong)).exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://h/../../../etc/passwd",
        "http://../x",
        "http://h/..",
        "http://h/a/..\\..\\x",
        "http://h/%2e%2e/x",
        "file:///../x",
        "http://h/a\x00b",
        "http://user:secret@h/x",
    ],
)
def test_no_address_leads_out_of_the_cache(url, cache):
    path = Path(cache_path(url)).resolve()
    assert cache.resolve() in path.parents
    assert "secret" not in str(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pth", CONTENT, ""),
        ("a.pth", CONTENT[:-30], "its end is missing"),
        ("a.pkl", b"\x80\x04N.", ""),
        ("a.pkl", b"\x80\x04N", "its end is missing"),
        ("a.json", b"  <!doctype html>", "web page"),
        ("a.gz", b"plain", "not compressed"),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}", ""),
        ("a.safetensors", b"\xff" * 20, "header claims"),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0[]", "not in the format"),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}more", "expected 10 bytes; got 14"),
        ("a.txt", b"<anything>", ""),
        ("a.pth", b"", ""),
    ],
)
def test_damage_that_shows_at_the_ends(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    found = describe_damage(str(tmp_path / name))
    assert said in found if said else found == ""
