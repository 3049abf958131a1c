import sys

import pytest

from posekit.errors import ConfigError
from posekit.training.events import HeadResult, Silent, StepLog
from posekit.training.tensorboard import TensorBoardListener


def test_every_loss_and_metric_reaches_the_event_file_and_the_other_listener(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    other = Silent()
    listener = TensorBoardListener(tmp_path, other)
    listener.logged(StepLog(3, 10, 0.1, 1e-3, {"coco": 0.5}, 20.0, 0.1, 9.0))
    listener.evaluated(3, {"coco": HeadResult({"AP": 0.25}, "AP")})
    listener.finished(3, stopped=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("loss/coco")[0].value == pytest.approx(0.5)
    assert events.Scalars("eval/coco/AP")[0].step == 3
    assert len(other.logs) == len(other.evaluations) == 1


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"posekit\[tensorboard\]"):
        TensorBoardListener(tmp_path, Silent())
