"""The HTTP doors: they authenticate, call a verb, and translate what comes back."""
