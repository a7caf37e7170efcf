"""Words that every floor shares; standard library and pydantic only."""
