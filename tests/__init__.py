"""One file per promise, through the front door: real servers, real sockets, a real fake provider."""
