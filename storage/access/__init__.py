"""Who may come in: peers (AE titles) and bearer tokens with roles."""
