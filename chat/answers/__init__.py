"""The verbs: what can be done with an answer. Doors translate them; nothing below knows them."""

from chat.answers.asking import Asked, Refused, Submitted, ask, regenerate
from chat.answers.following import Stream
from chat.answers.showing import models_on_offer, render_all, render_final, state
from chat.answers.stopping import Receipt, stop

__all__ = [
    "Asked",
    "Receipt",
    "Refused",
    "Stream",
    "Submitted",
    "ask",
    "models_on_offer",
    "regenerate",
    "render_all",
    "render_final",
    "state",
    "stop",
]
