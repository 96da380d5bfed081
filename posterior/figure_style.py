"""Colours, told apart by those who see few of them, and axes: the same in every figure."""

from __future__ import annotations

from typing import Any

BLUE, ORANGE, GREEN, GREY = "#1f6fb2", "#d9731a", "#3a8f4f", "#666666"
AXES: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "font.size": 10}
