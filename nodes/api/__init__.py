"""The REST API: POST /api/VERB-NOUN, a JSON object in, a JSON object out."""
