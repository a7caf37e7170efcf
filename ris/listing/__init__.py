"""Searches that page by id over patients, orders, studies and reports, for wires that name them."""
