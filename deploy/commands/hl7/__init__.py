"""``lienthong hl7``: the messages that came, those that wait, who sends and who is told."""

import typer

from deploy.commands.hl7 import messages, outgoing, senders

app = typer.Typer(no_args_is_help=True)
app.add_typer(messages.app)
app.add_typer(outgoing.app)
app.add_typer(senders.app, name="sender")
app.add_typer(outgoing.destination_app, name="destination")
