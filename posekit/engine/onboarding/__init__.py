"""From somebody's annotations to a card that trains: `posekit datasets new`."""

from posekit.engine.onboarding.new import NewDataset, discover, new_dataset
from posekit.engine.onboarding.template import write_template

__all__ = ["NewDataset", "discover", "new_dataset", "write_template"]
