"""Forms: what is typed, checked before the same functions as the API's get it."""
