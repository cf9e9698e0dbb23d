"""Messages of retinue appear under the names that programs for detectron2 expect."""

import logging

import pytest

from retinue.utils.logger import setup_logger

pytestmark = pytest.mark.usefixtures("hook")


def test_lines_of_the_library_have_detectron2s_names(capsys):
    setup_logger(name="detectron2")
    logging.getLogger("retinue.engine.hooks").info("said")

    assert capsys.readouterr().out.endswith("d2.engine.hooks]: said\n")


@pytest.mark.parametrize("arguments", [{}, {"name": "retinue"}, {"name": "detectron2"}])
def test_each_message_comes_once(capsys, tmp_path, arguments):
    setup_logger(str(tmp_path), name="detectron2")
    setup_logger(str(tmp_path), **arguments)
    logging.getLogger("retinue.data.build").warning("once")

    assert capsys.readouterr().out.count("once") == 1
    assert (tmp_path / "log.txt").read_text().count("once") == 1


def test_the_file_has_the_names_of_the_console(tmp_path):
    """As ``log.txt`` of detectron2 has them: its console's formatter shortens them for all."""
    setup_logger(str(tmp_path), name="detectron2")
    logging.getLogger("retinue.data.build").warning("written")

    assert "] d2.data.build WARNING: written" in (tmp_path / "log.txt").read_text()


def test_levels_set_for_detectron2_count(capsys):
    setup_logger(name="detectron2")
    logging.getLogger("detectron2.data.build").setLevel(logging.ERROR)
    logging.getLogger("retinue.data.build").warning("hidden")
    logging.getLogger("retinue.data.catalog").warning("shown")
    logging.getLogger("detectron2.data.build").setLevel(logging.NOTSET)

    out = capsys.readouterr().out
    assert "hidden" not in out
    assert "shown" in out


def test_a_level_set_for_one_module_counts_without_setup():
    heard = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.name)
    module = logging.getLogger("detectron2.utils.events")
    module.setLevel(logging.DEBUG)
    module.addHandler(listener)
    logging.getLogger("retinue.utils.events").debug("heard")
    logging.getLogger("retinue.utils.env").info("not heard")
    module.removeHandler(listener)
    module.setLevel(logging.NOTSET)

    assert heard == ["detectron2.utils.events"]


def test_without_setup_messages_reach_the_root():
    heard = []

    class Listener(logging.Handler):
        def emit(self, record):
            heard.append((record.name, record.getMessage()))

    listener = Listener()
    logging.getLogger().addHandler(listener)
    logging.getLogger("retinue.utils.events").warning("heard")
    logging.getLogger().removeHandler(listener)

    assert heard == [("detectron2.utils.events", "heard")]


def test_saved_names_are_detectron2s_while_served(hook):
    from retinue.data.transforms import RandomCrop
    from retinue.utils.registry import _convert_target_to_string, locate

    assert _convert_target_to_string(RandomCrop) == "detectron2.data.transforms.RandomCrop"
    hook.uninstall()
    assert _convert_target_to_string(RandomCrop) == "retinue.data.transforms.RandomCrop"
    assert locate("detectron2.data.transforms.RandomCrop") is RandomCrop
    hook.install()
