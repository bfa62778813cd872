"""The web page: a client of the wire like any other. It knows neither engine nor service (docs/PAGE.md)."""
