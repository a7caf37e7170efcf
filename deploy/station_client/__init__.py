"""The software of a health station, as far as it has to do with us: an encrypted copy that syncs.

vault   what is kept: one SQLite file, every value encrypted
wire    how the server is asked; a line that breaks loses nothing that has arrived
client  outbox ─▶ feed ─▶ texts ─▶ papers ─▶ receipts, as far as the line lets it
"""
