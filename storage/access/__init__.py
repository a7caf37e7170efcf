"""Who may come in: peers (AE titles), bearer tokens, and users with their sessions."""
