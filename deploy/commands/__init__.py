"""The commands of ``lienthong``, one module a subject; `deploy.cli` names them."""
