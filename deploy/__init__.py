"""How the parts are put together and run: the command line and the supervisor."""
