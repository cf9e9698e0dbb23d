import json
import logging

import pytest
import torch

from retinue.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
    log_scalars,
)
from retinue.utils.history_buffer import HistoryBuffer


def test_reporting_without_a_storage_is_silent():
    assert not has_event_storage()
    log_scalars({"a/b": 1.0}, loss=torch.tensor(2.0))
    with pytest.raises(AssertionError, match="no active storage"):
        get_event_storage()


def test_the_innermost_storage_gets_the_scalars():
    with EventStorage() as outer:
        log_scalars(a=1)
        with EventStorage(start_iter=7) as inner:
            assert get_event_storage() is inner
            log_scalars({"a": 2.0})
        log_scalars(b=3)

    assert outer.latest() == {"a": (1.0, 0), "b": (3.0, 0)}
    assert inner.latest() == {"a": (2.0, 7)}


def test_tensors_are_not_read_when_they_are_put():
    """A meta tensor has no value, so reading it fails; putting must not."""
    with EventStorage() as storage:
        storage.put_scalar("loss", torch.empty((), device="meta"))
        with pytest.raises(Exception, match="meta"):
            storage.history("loss").latest()


def test_a_tensor_changed_later_is_recorded_as_it_was():
    value = torch.tensor(1.0)
    with EventStorage() as storage:
        log_scalars(x=value)
        value += 5

    assert storage.latest() == {"x": (1.0, 0)}


def test_mixed_numbers_and_tensors_keep_their_order_and_precision():
    buffer = HistoryBuffer(max_length=3)
    for value in (0.1, torch.tensor(0.2, dtype=torch.float64), 3, torch.tensor(4)):
        buffer.update(value)

    assert buffer.values() == [(0.2, 1), (3.0, 2), (4.0, 3)]
    assert buffer.latest() == 4.0
    assert buffer.median(2) == 3.5
    assert buffer.avg(2) == 3.5
    assert buffer.global_avg() == pytest.approx(7.3 / 4)


def test_a_series_nobody_reads_stays_bounded():
    buffer = HistoryBuffer(max_length=10)
    for i in range(2500):
        buffer.update(torch.tensor(float(i)), i)

    assert len(buffer._pending) < 1000
    assert buffer.values()[-1] == (2499.0, 2499)
    assert len(buffer.values()) == 10


def test_one_name_has_one_smoothing_hint():
    storage = EventStorage()
    storage.put_scalar("lr", 0.1, smoothing_hint=False)
    with pytest.raises(AssertionError, match=r"'lr'.*smoothing_hint=False as before; got True"):
        storage.put_scalar("lr", 0.1)


def test_an_unknown_series_is_named():
    storage = EventStorage()
    storage.put_scalar("a", 1)
    with pytest.raises(KeyError, match=r"no scalar 'b'.*there are: a"):
        storage.history("b")


def test_smoothing_is_a_median_over_the_window_where_allowed():
    """By hand: the last 3 iterations hold 5, 1, 9 (median 5); lr is not smoothed."""
    with EventStorage() as storage:
        for value in (100.0, 5.0, 1.0, 9.0):
            storage.put_scalar("loss", value)
            storage.put_scalar("lr", value, smoothing_hint=False)
            storage.step()

    assert storage.count_samples("loss", 3) == 3
    assert storage.latest_with_smoothing_hint(3) == {"loss": (5.0, 3), "lr": (9.0, 3)}
    assert storage.smoothing_hints() == {"loss": True, "lr": False}
    assert storage.count_samples("nothing") == 0


def test_what_is_no_number_is_refused_at_once():
    storage = EventStorage()
    with pytest.raises(ValueError, match="could not convert string to float"):
        storage.put_scalar("loss", "low")
    with pytest.raises(TypeError, match="NoneType"):
        storage.put_scalar("loss", None)
    with pytest.raises(ValueError, match=r"expected one number; got shape \(2,\)"):
        storage.put_scalar("loss", torch.zeros(2))


def test_name_scope_prefixes_scalars_and_ends():
    with EventStorage() as storage:
        with storage.name_scope("rpn"):
            storage.put_scalars(loss=1.0, cur_iter=4)
        storage.put_scalar("loss", 2.0)

    assert storage.latest() == {"rpn/loss": (1.0, 4), "loss": (2.0, 0)}


def test_iter_can_be_set():
    storage = EventStorage(3)
    storage.step()
    assert storage.iter == storage.iteration == 4
    storage.iter = 9
    assert storage.iteration == 9


def test_histogram_counts_every_value():
    storage = EventStorage()
    storage.put_histogram("w", torch.tensor([0.0, 1.0, 1.0, 4.0]), bins=4)
    (histogram,) = storage._histograms
    assert histogram["bucket_counts"] == [1.0, 2.0, 0.0, 1.0]
    assert histogram["bucket_limits"] == [1.0, 2.0, 3.0, 4.0]
    assert (histogram["num"], histogram["sum"], histogram["sum_squares"]) == (4, 6.0, 18.0)
    storage.clear_histograms()
    assert storage._histograms == []


def test_writer_is_abstract():
    with pytest.raises(NotImplementedError):
        EventWriter().write()
    EventWriter().close()


def test_json_lines(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0, "old": 1}\n')
    writer = JSONWriter(str(path))
    with EventStorage() as storage:
        for i in range(3):
            log_scalars(loss=torch.tensor(float(i)))
            writer.write()
            writer.write()  # nothing new: no second line
            storage.step()
        storage.put_scalar("late", 5.0, cur_iter=7)
        writer.write()
    writer.close()

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"iteration": 0, "old": 1},
        {"iteration": 0, "loss": 0.0},
        {"iteration": 1, "loss": 0.5},
        {"iteration": 2, "loss": 1.0},
        {"iteration": 7, "late": 5.0},
    ]


def test_progress_line(caplog):
    """The line is what people's scripts search: names, order, digits and spaces are fixed."""
    caplog.set_level(logging.INFO)
    with EventStorage(19) as storage:
        log_scalars(total_loss=1.23456, loss_cls=0.5, lr_mult=3.0)
        storage.put_scalar("segm [metric]", 7)
        storage.put_scalar("lr", 0.00123456, smoothing_hint=False)
        storage.put_scalars(time=0.5, data_time=0.01)
        printer = CommonMetricPrinter(max_iter=120)
        printer.write()
    line = caplog.messages[-1].split(" max_mem")[0].rstrip()
    assert line == (
        " eta: 0:00:50  iter: 19  total_loss: 1.235  loss_cls: 0.5  segm [metric]: 7"
        "  time: 0.5000  last_time: 0.5000  data_time: 0.0100  last_data_time: 0.0100"
        "   lr: 0.0012346"
    )


def test_progress_line_before_anything_is_timed(caplog):
    caplog.set_level(logging.INFO)
    printer = CommonMetricPrinter(max_iter=100)
    with EventStorage() as storage:
        printer.write()
        assert caplog.messages[-1].startswith(" iter: 0 ")
        assert "lr: N/A" in caplog.messages[-1]
        storage.iter = 10
        printer.write()  # now from its own clock
        assert caplog.messages[-1].startswith(" eta: 0:00:00  iter: 10")
        count = len(caplog.messages)
        storage.iter = 100
        printer.write()  # the run is over
        assert len(caplog.messages) == count


def test_no_time_left_is_printed_without_max_iter(caplog):
    caplog.set_level(logging.INFO)
    with EventStorage():
        CommonMetricPrinter().write()
    assert caplog.messages[-1].startswith(" iter: 0")


@pytest.mark.slow
def test_tensorboard_gets_scalars_images_and_histograms(tmp_path):
    pytest.importorskip("tensorboard")
    writer = TensorboardXWriter(str(tmp_path))
    writer.close()
    assert list(tmp_path.iterdir()) == []  # no file before there is something to write
    with EventStorage() as storage:
        log_scalars(loss=torch.tensor(1.0))
        storage.put_image("picture", torch.zeros(3, 4, 4, dtype=torch.uint8))
        storage.put_histogram("weights", torch.arange(10.0))
        writer.write()
        assert storage._vis_data == []
        assert storage._histograms == []
    writer.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.value for event in read.Scalars("loss")] == [1.0]
    assert read.Tags()["images"] == ["picture"]
    assert read.Tags()["histograms"] == ["weights"]
