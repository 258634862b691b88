"""Views: what each modality of an explanation can be drawn as, decided by shapes and values alone."""

from fxplain.views.boxes import predicted_boxes
from fxplain.views.labels import are_words, is_number, is_right_to_left, reading_order
from fxplain.views.pixels import image_beneath, photo_beneath
from fxplain.views.scale import beyond_scale, strongest_shade
from fxplain.views.view import Kind, View

__all__ = [
    "Kind",
    "View",
    "are_words",
    "beyond_scale",
    "image_beneath",
    "is_number",
    "is_right_to_left",
    "photo_beneath",
    "predicted_boxes",
    "reading_order",
    "strongest_shade",
]
