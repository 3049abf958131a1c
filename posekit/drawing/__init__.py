"""Drawing: poses, boxes, heatmaps and contact sheets, readable on any background.

All pictures are uint8 RGB arrays (H, W, 3); all points are (x, y), 0-based, a pixel's centre at
integer coordinates. Every function returns a new picture and leaves its argument as it was. Colours
are Okabe and Ito's, which readers of every colour vision tell apart: blue is the subject's left,
orange its right, white its midline. Each stroke has a dark outline.
"""

from posekit.drawing.picture_files import jpeg_uri, write_picture
from posekit.drawing.poses import (
    PoseStyle,
    draw_errors,
    draw_poses,
    keypoint_colours,
    link_colours,
    stroke_width,
)
from posekit.drawing.schemas import draw_schema, write_schema_picture
from posekit.drawing.sheets import (
    beside,
    contact_sheet,
    crop_view,
    draw_boxes,
    draw_label,
    draw_matrix,
    overlay_heatmap,
)
from posekit.drawing.strokes import ERROR, LEFT, MIDDLE, PALETTE, RIGHT, TRUTH, Colour

__all__ = [
    "ERROR",
    "LEFT",
    "MIDDLE",
    "PALETTE",
    "RIGHT",
    "TRUTH",
    "Colour",
    "PoseStyle",
    "beside",
    "contact_sheet",
    "crop_view",
    "draw_boxes",
    "draw_errors",
    "draw_label",
    "draw_matrix",
    "draw_poses",
    "draw_schema",
    "jpeg_uri",
    "keypoint_colours",
    "link_colours",
    "overlay_heatmap",
    "stroke_width",
    "write_picture",
    "write_schema_picture",
]
