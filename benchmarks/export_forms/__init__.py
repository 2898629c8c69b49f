"""Small models by kind of size arithmetic, for `benchmarks.export_policy`."""

from benchmarks.export_forms import decisions, images, reshapes, windows
from benchmarks.export_forms.form import FORMS, Form

__all__ = ["FORMS", "Form", "decisions", "images", "reshapes", "windows"]
