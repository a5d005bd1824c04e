"""The pages: thin views over the same functions as the API's, reading the database only."""
