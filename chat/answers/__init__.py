"""The verbs: what can be done with an answer. Doors translate them; nothing below knows them."""

from chat.answers.asking import ask, edit, go_on, regenerate
from chat.answers.following import Stream
from chat.answers.showing import models_on_offer, render_all, render_final, state
from chat.answers.stopping import Receipt, stop
from chat.answers.submitting import Asked, Busy, Refused, Submitted

__all__ = [
    "Asked",
    "Busy",
    "Receipt",
    "Refused",
    "Stream",
    "Submitted",
    "ask",
    "edit",
    "go_on",
    "models_on_offer",
    "regenerate",
    "render_all",
    "render_final",
    "state",
    "stop",
]
