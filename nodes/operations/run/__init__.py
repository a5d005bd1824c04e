"""Parts of a running operation that several kinds share."""
