"""Operations as JSON under ``/api/v1``, health and figures."""
