"""Django's development server with Parley's server class, so that answers are written in it as in script/server."""

from daphne.management.commands.runserver import Command as DaphneCommand

from chatproject.server import Server


class Command(DaphneCommand):
    server_cls = Server
