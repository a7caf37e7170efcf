"""PostgreSQL: the engine, the migrations and the embedded server."""
