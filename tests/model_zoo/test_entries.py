import hashlib
import http.server
import json
import threading

import pytest
from typer.testing import CliRunner

from retinue import model_zoo
from retinue.cli.main import app
from retinue.model_zoo import entries as table
from retinue.model_zoo import weights
from retinue.model_zoo.entries import Entry, entries, find_entry
from retinue.utils.download import DETECTRON2
from retinue.utils.file_io import Detectron2Handler, PathManager

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
LAZY = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py"
VITDET = "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py"
OF_OTHERS = {"Misc/mmdet_mask_rcnn_R_50_FPN_1x.py", "Misc/torchvision_imagenet_R_50.py"}


def run(*args):
    return CliRunner().invoke(app, ["zoo", *args])


def entry(**fields):
    rest = dict.fromkeys(("task", "backbone", "url", "licence", "md5", "sha256", "source"), "")
    return Entry(**{"name": "x.yaml", "scores": {}, "parameters": None} | rest | fields)


# ---- the table


def test_every_entry_says_what_it_is():
    for row in entries():
        assert row.task, row.name
        assert row.backbone or row.task == "classification", row.name
        assert not row.backbone.startswith("-"), row.name
        assert row.parameters or row.name in OF_OTHERS, f"{row.name}: run record_parameters.py"
        assert bool(row.source) >= bool(row.licence or row.md5 or row.sha256), row.name
        assert row.url.startswith("https://dl.fbaipublicfiles.com/") or not row.url
    assert len({row.name for row in entries()}) == len(entries()) > 120


def test_the_task_is_the_configs():
    for row in entries():
        if row.is_lazy or row.name.startswith("projects/"):
            continue
        model = model_zoo.get_config(row.name).MODEL
        want = {
            "ProposalNetwork": "proposals",
            "PanopticFPN": "panoptic segmentation",
            "SemanticSegmentor": "semantic segmentation",
        }.get(model.META_ARCHITECTURE)
        if want is None:
            on = {"instance segmentation": model.MASK_ON, "keypoints": model.KEYPOINT_ON}
            want = next((task for task, is_on in on.items() if is_on), "detection")
        assert row.task == want, row.name


def test_parts_of_configs_are_no_models():
    names = {row.name for row in entries()}
    assert not any("Base-" in name or name.startswith("common/") for name in names)


def test_hash_and_licence_are_what_the_pages_say():
    """The MD5's beginning is in the file's name, as the model zoo page says of all it lists."""
    row = find_entry(MASK_RCNN)
    assert row.url == model_zoo.get_checkpoint_url(MASK_RCNN)
    assert (row.md5, row.sha256[:8]) == ("f10217", "9a737e29")
    assert row.licence.startswith("CC BY-SA 3.0")
    assert row.source.endswith("MODEL_ZOO.md")
    for row in entries():
        if row.source.endswith("MODEL_ZOO.md") and row.url:
            assert row.url.endswith(f"_{row.md5}.pkl")
    of_project = find_entry(VITDET)
    assert (of_project.md5, of_project.licence) == ("", "")
    assert of_project.source.endswith("projects/ViTDet/README.md")


def test_the_table_of_longer_schedules():
    row = find_entry("new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ")
    assert (row.scores["box_ap"], row.scores["mask_ap"]) == (47.4, 42.5)
    assert row.url == model_zoo.get_checkpoint_url(row.name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mask_rcnn_R_50_FPN_3x", MASK_RCNN),
        (MASK_RCNN, MASK_RCNN),
        (LAZY, LAZY),
        (LAZY.replace(".py", ".yaml"), LAZY.replace(".py", ".yaml")),
        (LAZY.removesuffix(".py"), LAZY.replace(".py", ".yaml")),
        ("retinanet_R_50_FPN_1x", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
        ("mask_rcnn_vitdet_b_100ep.py", None),
        (VITDET, VITDET),
    ],
)
def test_names_in_full_and_in_part(name, found):
    if found is None:
        with pytest.raises(RuntimeError, match=r"stands for several: .*COCO/.*LVIS/"):
            find_entry(name)
    else:
        assert find_entry(name).name == found


def test_a_name_that_is_almost_right():
    with pytest.raises(KeyError, match="did you mean 'mask_rcnn_R_50_FPN_3x'"):
        find_entry("mask_rcnn_R50_FPN_3x")


@pytest.mark.parametrize("function", ["get_config", "get_config_file", "get_checkpoint_url"])
def test_a_project_config_that_is_almost_right(function):
    with pytest.raises(RuntimeError, match="did you mean 'COCO/mask_rcnn_vitdet_b_100ep"):
        getattr(model_zoo, function)(VITDET.replace("100ep", "10ep"))


def test_configs_of_projects_resolve(tmp_path, monkeypatch):
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path))
    assert model_zoo.get_config_file(VITDET).endswith("mask_rcnn_vitdet_b_100ep.py")
    assert model_zoo.get_checkpoint_url(VITDET).endswith("model_final_61ccd1.pkl")
    trained = model_zoo.get_config(VITDET, trained=True)
    assert trained.train.init_checkpoint.endswith("model_final_61ccd1.pkl")
    name = "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"
    with open(model_zoo.get_config_file(name)) as file:
        assert "PointRendMaskHead" in file.read()
    assert model_zoo.get_config(name).MODEL.ROI_MASK_HEAD.NAME == "PointRendMaskHead"


# ---- weights


class _Server(http.server.BaseHTTPRequestHandler):
    content = bytes(range(256)) * 8

    def do_GET(self):  # the base class's name
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Publishes a file with what is said of it; returns a function that does."""
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()

    def add(**fields):
        url = f"http://127.0.0.1:{httpd.server_port}/model.bin"
        row = entry(name="Test/model.yaml", url=url, source="a page", **fields)
        monkeypatch.setattr(table, "entries", lambda: (row,))

    yield add
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_download_is_checked_and_its_licence_printed(published):
    known = {k: hashlib.new(k, _Server.content).hexdigest() for k in ("md5", "sha256")}
    published(parameters=500, licence="CC0", md5=known["md5"][:6], sha256=known["sha256"])
    result = run("download", "model")

    assert result.exit_code == 0, result.output
    where, size, licence = result.stdout.splitlines()[-3:]
    assert where.endswith("model.bin")
    assert size == "2,048 bytes; checked: size, MD5, SHA256"
    assert licence == "licence: CC0 (a page)"
    with open(where, "rb") as file:
        assert file.read() == _Server.content


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"md5": "000000"}, r"expected the MD5 that begins 000000; got [0-9a-f]{32}; it was del"),
        ({"parameters": 2000}, r"expected 4,000 bytes or more, .*2,000 parameters; got 2,048"),
        ({"sha256": "0" * 64}, "000000"),
    ],
)
def test_a_wrong_file_is_not_kept(published, tmp_path, fields, message):
    published(**fields)
    with pytest.raises(OSError, match=message):
        weights.download("Test/model")
    assert not list(tmp_path.rglob("*.bin"))


def test_mirrors_of_the_handler_in_use_are_tried_first(monkeypatch, tmp_path):
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setattr(PathManager, "_path_handlers", dict(PathManager._path_handlers))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "model.bin").write_bytes(_Server.content)
    row = entry(name="Test/model.yaml", url=f"{DETECTRON2}model.bin", source="a page")
    monkeypatch.setattr(table, "entries", lambda: (row,))
    PathManager.register_handler(Detectron2Handler(mirrors=[str(tmp_path / "mirror")]))
    result = run("download", "model")

    assert result.exit_code == 0, result.output
    assert (tmp_path / "cache").is_dir()
    assert weights.download("Test/model").read_bytes() == _Server.content


def test_a_model_without_weights(published):
    result = run("download", "semantic_R_50_FPN_1x")
    assert result.exit_code == 2
    assert "no trained weights are published" in result.stderr


def test_a_hash_that_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    with pytest.raises(weights.WeightsError, match="expected the SHA256 0000"):
        weights.check_weights(path, entry(sha256="0" * 64))
    assert weights.check_weights(path, entry()) == []


# ---- the command


def names_of(*args):
    return [row["name"] for row in json.loads(run("list", "--json", *args).output)]


def test_the_list_is_filtered():
    assert len(names_of()) == len(entries())
    assert names_of("retinanet", "--trained", "--min-ap", "40") == [
        "COCO-Detection/retinanet_R_101_FPN_3x.yaml"
    ]
    assert names_of("--task", "panoptic", "--backbone", "R101", "--min-ap", "45") == [
        "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x.yaml"
    ]
    small = names_of("--task", "instance", "--max-params", "40")
    assert small
    assert all(find_entry(name).parameters <= 40e6 for name in small)
    assert names_of("no such model") == []


def test_the_list_is_a_table():
    lines = run("list", "panoptic_fpn_R_50_3x").output.splitlines()
    assert lines[0].split()[:3] == ["name", "task", "backbone"]
    assert "PQ 41.5" in lines[1]
    assert lines[-1] == "1 models"


@pytest.mark.parametrize("name", [MASK_RCNN, VITDET, "Misc/semantic_R_50_FPN_1x"])
def test_show(name):
    output = run("show", name).output
    row = find_entry(name)
    assert output.startswith(row.name)
    assert f"{row.parameters:,}" in output
    assert (row.url or "none published") in output
    assert "model_zoo.get(" in output
    assert json.loads(run("show", name, "--json").output)["config"]["model"]


def test_show_says_what_is_near():
    result = run("show", "mask_rcnn_R_50_FPN_4x")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
