"""Settings: ``local`` for script/server, ``production`` behind a TLS proxy, ``test`` for the tests."""
